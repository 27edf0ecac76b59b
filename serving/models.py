"""The models of a server: their names, and what each can do."""

import asyncio
import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from serving.config import LoraModule, Options
from serving.errors import APIError, NotServed, unknown_model
from serving.slots import Slot

log = logging.getLogger("jaxpool.serving")


@dataclass
class Served:
    """A model, and the names clients call it by; or a model with an adapter.

    Both share all but names and path: a batch has requests of either. budget: tokens of a batch;
    fingerprint: that of the model (vectors of an adapter are of another space, which has none);
    parent: its name, where this has an adapter. Where the model is on a device of this process,
    queue and loras are its own, and slot is that of the adapter.
    """

    names: Sequence[str]
    path: str
    model: Any
    budget: int
    fingerprint: str | None
    queue: Any = None
    loras: Any = None
    chat_template: str | None = None
    created: int = field(default_factory=lambda: int(time.time()))
    parent: str | None = None
    slot: Slot = field(default_factory=Slot)

    @property
    def name(self) -> str:
        """The name that responses report."""
        return self.names[0]

    @property
    def label(self) -> str:
        """The name in metrics: that of the model, since adapters come and go."""
        return self.parent or self.name

    @cached_property
    def templates(self) -> dict[str, str]:
        """The chat templates that lie with the tokenizer, by name."""
        from jaxpool.text.chat_templates import chat_templates

        return chat_templates(self.model.tokenizer.folder)

    @property
    def default_task(self) -> str:
        """The task of a request that names none."""
        return self.model.pooling_task

    @property
    def embedding_task(self) -> str | None:
        """What /v1/embeddings computes: one vector a text, or one a token."""
        tasks = self.model.tasks
        if self.default_task == "token_embed" or "embed" not in tasks:
            return "token_embed" if "token_embed" in tasks else None
        return "embed"

    @property
    def scoring_task(self) -> str | None:
        """What /score computes with: a cross-encoder's, ColBERT's or an embedder's task."""
        if self.default_task != "classify":
            return self.embedding_task
        return "classify" if self.model.checkpoint.config.num_labels == 1 else None

    @property
    def spans(self) -> bool:
        """Whether it finds entities of labels that a call names."""
        from jaxpool.tasks.token_rows import Spanned

        task = self.model.tasks.get("token_classify")
        return task is not None and isinstance(task.rows, Spanned)

    @property
    def classifies(self) -> bool:
        """Whether /classify answers of it."""
        return "classify" in self.model.tasks or self.spans

    def adapted(self, module: LoraModule) -> "Served":
        """The model with an adapter; where it is on a device, this thread loads it there."""
        return replace(
            self,
            names=[module.name],
            path=module.path,
            fingerprint=None,
            created=int(time.time()),
            parent=self.name,
            slot=Slot(self._slot(module) if self.loras else 0),
        )

    def _slot(self, module: LoraModule) -> int:
        from jaxpool.loras import LoRARequest

        begun = time.monotonic()
        number = self.loras.slot(LoRARequest(module.name, 1, module.path))
        log.info("adapter %r ready after %.1f s", module.name, time.monotonic() - begun)
        return number


class Registry:
    """All models of a server. Empty, and answering 503, until the first is loaded."""

    def __init__(self, options: Options):
        self.options = options
        self.served: list[Served] = []
        self.adapters: dict[str, Served] = {}
        self.changing = asyncio.Lock()  # held while adapters are loaded or unloaded
        self.error: str | None = None

    @property
    def state(self) -> str:
        """starting, ready or failed."""
        if self.error:
            return "failed"
        return "ready" if len(self.served) == len(self.options.models) else "starting"

    @property
    def every(self) -> list[Served]:
        """The models, and after them their adapters."""
        return [*self.served, *self.adapters.values()]

    def find(self, name: str | None, able: Callable[[Served], Any] = lambda served: True) -> Served:
        """The model of a name, the first able one where none is given."""
        if not self.served:
            raise APIError(503, f"The server is {self.state}", retry_after=1)
        if not name:
            found = next(filter(able, self.served), None)
        else:
            found = next((served for served in self.every if name in served.names), None)
            if found is None:
                raise unknown_model(name)
        if found is None or not able(found):
            raise NotServed
        return found

    def require(self, able: Callable[[Served], Any]) -> None:
        """Raise `NotServed` if no model can do what a route is about."""
        if self.state == "ready" and not any(able(served) for served in self.served):
            raise NotServed


def served_names(options: Options) -> list[list[str]]:
    """The names of each model: given ones, or what the command line calls it."""
    given, models = options.served_model_name, options.models
    if not given:
        return [[path] for path in models]
    if len(models) == 1:
        return [given]
    if len(given) != len(models):
        raise ValueError(f"{len(models)} models but {len(given)} names in --served-model-name")
    return [[name] for name in given]


def modules_of(options: Options, names: list[list[str]]) -> list[list[LoraModule]]:
    """The adapters of each model: those that name it, the first also those that name none."""
    taken = [name for each in names for name in each]
    for module in options.lora_modules:
        if module.name in taken:
            raise ValueError(f"--lora-modules: {module.name!r} is the name of something else")
        if module.base_model_name not in {None, *(name for each in names for name in each)}:
            raise ValueError(f"--lora-modules: no model is called {module.base_model_name!r}")
        taken.append(module.name)
    bases = [module.base_model_name or names[0][0] for module in options.lora_modules]
    pairs = list(zip(bases, options.lora_modules, strict=True))
    return [[module for base, module in pairs if base in each] for each in names]


def template(options: Options) -> str | None:
    """The chat template of the options: a file's text, or the template itself."""
    given = options.chat_template
    if given and "{" not in given and "\n" not in given:
        return Path(given).read_text(encoding="utf-8")
    return given
