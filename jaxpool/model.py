"""`Model`: arch + params + tasks + tokenizer, what `load` returns."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import jax
import numpy as np

from jaxpool import offline
from jaxpool.engine import serialized
from jaxpool.engine.batch import Request
from jaxpool.engine.engine import Engine, EngineOptions
from jaxpool.engine.executor import Executor
from jaxpool.engine.programs import Programs
from jaxpool.fingerprint import fingerprint
from jaxpool.heads.steps import Pool
from jaxpool.images.media import MediaOptions
from jaxpool.images.processor import Processor
from jaxpool.images.towers import TowerEngine, alone
from jaxpool.nn import quantization
from jaxpool.nn.arch import Arch
from jaxpool.scoring import pairs
from jaxpool.scoring.listwise import Listwise
from jaxpool.scoring.template import ScoreTemplate
from jaxpool.tasks.input_types import find, meaning
from jaxpool.tasks.model_config import ModelConfig, model_config
from jaxpool.tasks.pooling_params import PoolerConfig, PoolingParams
from jaxpool.tasks.resolve import Resolution
from jaxpool.tasks.task import Task, choose, of_pictures, several, taking_pictures
from jaxpool.text.instructions import named
from jaxpool.text.late_interaction import SIDES, LateInteraction
from jaxpool.text.prompts import is_picture
from jaxpool.text.tokenizer import Tokenizer

PICTURES = "pictures"  # the folder of a tower's programs among those of `jaxpool compile`


@dataclass(frozen=True)
class Model:
    """A loaded checkpoint. `arch` and `params` are all that `jaxpool.forward` needs."""

    name: str
    arch: Arch
    params: dict
    resolution: Resolution
    tokenizer: Tokenizer
    max_length: int
    mesh: Any  # None, and no parameters, where `loading.describe` made it
    checkpoint: Any
    score_template: ScoreTemplate | None = None
    options: EngineOptions = EngineOptions()
    default_prompt_name: str | None = None
    media: MediaOptions = MediaOptions()
    settled: dict = field(default_factory=dict, init=False)  # by `text.prepare`, for later calls

    def __post_init__(self):
        if self.default_prompt_name is not None:
            named(self, self.default_prompt_name)  # an unknown one is refused

    @cached_property
    def engine(self) -> Engine:
        """What runs this model: its plans, shapes and executables."""
        if self.arch.patches and self.picture_engine:
            return self.picture_engine
        tasks = [self.task()] if self.pooler_config.task else list(self.tasks.values())
        programs = Programs(tasks, pairs.comparing(self, tasks))
        return Engine(self.executor, self.max_length, self.options, programs)

    @cached_property
    def executor(self) -> Executor:
        """The compiled programs of this model."""
        if self.arch.patches and self.picture_engine:
            return self.picture_engine.executor
        own = {name: part for name, part in self.params.items() if name != "vision"}
        return Executor(own, self.arch.replace(vision=None), self.mesh, self.context)

    @cached_property
    def tower(self) -> TowerEngine | None:
        """What runs the vision tower, by itself or before the texts around it; None without one."""
        if not (processor := self.processor):
            return None
        tasks = [task.of_pictures for task in self.tasks.values() if task.pictures]
        programs = Programs(tasks, pairs.comparing(self, tasks))
        own, arch = alone(self.params, self.arch)
        length = self.max_length if arch.joins else processor.most + arch.before_patches
        executor = Executor(own, arch, self.mesh, packed=arch.joins or not processor.one_size)
        return TowerEngine(Engine(executor, length, self.options, programs), self.media.cache)

    @property
    def picture_engine(self) -> Engine | None:
        """The plans, shapes and executables of the tower."""
        return self.tower.engine if self.tower else None

    @property
    def engines(self) -> dict[str, Engine]:
        """The engine of texts, and that of pictures, by the folder of what is compiled for them."""
        apart = self.picture_engine if self.picture_engine is not self.engine else None
        return {"": self.engine} | ({PICTURES: apart} if apart else {})

    @cached_property
    def processor(self) -> Processor | None:
        """What makes patches of a picture; None without a vision tower."""
        return self.checkpoint.processor_for(self.media.mm_processor_kwargs or {})

    @cached_property
    def conversation(self) -> Any:
        """The words around texts and images; None where a text is read as it is."""
        from converters.heads.chat import conversation

        return conversation(self.checkpoint, self.tokenizer)

    @property
    def padded(self) -> int | None:
        """The length to which texts are padded, for models that attend to padding; else None."""
        return self.arch.positions if self.checkpoint.family.padded else None

    @property
    def late_interaction(self) -> LateInteraction | None:
        """How queries and documents of late interaction are made, where the files say it."""
        return self.checkpoint.late_interaction

    @property
    def listwise(self) -> Listwise | None:
        """How documents are scored in one prompt, by models that do."""
        return self.checkpoint.listwise

    @property
    def context(self) -> bool:
        """Whether batches have a `context` (see `Batch`): queries are expanded, or prefixes shared.

        Not where the rotation of a token depends on the length of its text, nor where layers do not
        attend (a prefix is then more than keys and values), nor where tokens become fewer.
        """
        task = self.tasks.get("classify") or self.tasks.get("decide")
        last = task is not None and Pool(("lasttoken",)) in task.steps
        fixed = all(table.scaling not in ("dynamic", "longrope") for table in self.arch.rotary)
        expands = self.late_interaction is not None and self.late_interaction.unseen
        plain = not self.arch.mixer and self.arch.compression is None
        return expands or (self.arch.causal and last and fixed and plain)

    @property
    def tasks(self) -> Mapping[str, Task]:
        """What this model can do, by name."""
        return self.resolution.tasks

    @property
    def pooling_task(self) -> str:
        """The task served where a call names none."""
        return self.resolution.pooling_task

    @property
    def pooler_config(self) -> PoolerConfig:
        """How this model pools, every setting resolved."""
        return self.resolution.pooler_config

    @property
    def prompts(self) -> Mapping[str, str]:
        """Named instructions: of config_sentence_transformers.json, or task_instructions' own."""
        own = getattr(self.checkpoint.config, "task_instructions", None)
        return own or (self.checkpoint.pipeline.prompts if self.checkpoint.pipeline else {})

    @property
    def default_prompt(self) -> str | None:
        """The name of the prompt that `encode` applies unasked, as sentence-transformers does."""
        pipeline = self.checkpoint.pipeline
        return self.default_prompt_name or (pipeline.default_prompt if pipeline else None)

    @property
    def include_prompt(self) -> bool:
        """Whether the tokens of a prompt take part in pooling."""
        return (self.checkpoint.pipeline or self.checkpoint.family).include_prompt

    @property
    def adapters(self) -> tuple[str, ...]:
        """The low-rank adapters that a request may choose as its `task`."""
        return self.checkpoint.adapters

    @cached_property
    def fingerprint(self) -> str:
        """A hash of all that decides this model's vectors (see `jaxpool.fingerprint`)."""
        dtype = jax.tree.leaves(self.params["embed"])[0].dtype.name
        how = (dtype, self.options.quantization, self.default_prompt_name, self.tokenizer.ended)
        return fingerprint(self.checkpoint, self.resolution, *how, processor=self.processor)

    @cached_property
    def model_config(self) -> ModelConfig:
        """The facts of this model under vLLM's names."""
        return model_config(self)

    def task(
        self, name: str | None = None, input_type: str | None = None, precision: str = "float32"
    ) -> Task:
        """A task by name (the default one if not given), on the route of an input type.

        Names may end in a precision, as in "embed:int8". A PoolerConfig that names a task allows no
        other. "reward" is the classifier's task; a single value stays as it is unless a call asks.
        """
        only = self.pooling_task if self.pooler_config.task else None
        name, _, own = (name or self.pooling_task).partition(":")
        task = choose(self.tasks, name, only).route(input_type).at(own or precision)
        raw = name == "reward" and task.width(self.arch.dim) == 1
        return replace(task, activate=False) if raw else task

    def select(
        self,
        name: str | Sequence[str],
        input_type: str | None = None,
        precision: str = "float32",
    ) -> Task | tuple[Task, ...]:
        """A task by name, or the tuple of them that "embed&sparse" or a sequence asks for."""
        if isinstance(name, str) and "&" not in name:
            return self.task(name, input_type, precision)
        return tuple(self.task(one, input_type, precision) for one in several(name))

    def encode(
        self,
        texts: Any,
        *,
        prompt: str | None = None,
        prompt_name: str | None = None,
        input_type: str | None = None,
        dimensions: int | None = None,
        task: str | None = None,
        precision: str = "float32",
    ) -> np.ndarray:
        """Vectors `[texts, F]`, or `[F]` of a single text; what is too long is cut.

        Pictures (see `jaxpool.images.decode`) may stand among the texts. sentence-transformers'
        call, with its defaults: the default prompt goes before texts unless another is named.
        input_type "query" or "document" chooses the prompt of that name and the path of a Router,
        task the adapter of that name (jina-embeddings-v3's "retrieval.query", ...) and its prompt;
        precision: float32, int8, uint8, binary or ubinary (see `jaxpool.heads.precision`).
        """
        if prompt is None and prompt_name is None:
            found = (find(kind, self.prompts) for kind in (task, input_type))
            prompt_name = next(filter(None, found), self.default_prompt)
        plain = input_type is None or meaning(input_type) in SIDES  # others need a prompt
        single = isinstance(texts, str | Mapping) or is_picture(texts)
        given = [texts] if single else list(texts)
        given = [t["text"] if isinstance(t, Mapping) and [*t] == ["text"] else t for t in given]
        _, vectors = offline.run(
            self,
            self.task("embed", input_type, precision),
            given,
            PoolingParams(dimensions=dimensions, task=task),
            tokenization_kwargs={"truncate_prompt_tokens": -1},
            prompt="" if prompt_name is None and prompt is None and plain else prompt,
            prompt_name=prompt_name,
            input_type=input_type,
        )
        return vectors[0] if single else np.stack(vectors)

    requests = offline.prepare  # `requests(task, prompts, ...)`: one a prompt, ready to `run`

    def run(
        self, task: Task | tuple[Task, ...], requests: Sequence[Request]
    ) -> Iterator[tuple[int, Any]]:
        """Compute a task; yields `(index of the request, result)` as batches finish.

        Requests may share rows and batches; their results do not depend on it.
        """
        read = [i for i, request in enumerate(requests) if not request.sees]
        seen = [i for i, request in enumerate(requests) if request.sees]
        parts = [(partial(self.engine.run, task), read)] if read else []
        if seen and self.tower:
            parts.append((partial(self.tower.run, of_pictures(task)), seen))
        for run, indices in parts:
            for i, result in run([requests[i] for i in indices]):
                yield indices[i], result

    def prepare(self, compiled: serialized.Compiled | None = None) -> None:
        """Load compiled executables and do the warm-up, as the options ask."""
        wanted = self.options.warmup
        named = None if isinstance(wanted, bool) else [self.select(name) for name in wanted]
        for name, engine in self.engines.items():
            if compiled:
                made = serialized.find(compiled.folder / name) if name else compiled
                serialized.load(engine.executor, made, engine.keys())
            if wanted and (tasks := taking_pictures(named) if name else named) != []:
                engine.warmup(tasks)
            engine.executor.frozen = self.options.forbid_compiles

    def export(
        self, folder: str | Path, params: dict | None = None, *, force: bool = False
    ) -> Path:
        """Write `params` (the model's own if not given) as a folder Hugging Face loads.

        A folder that has something in it is refused, or replaced by `force`.
        """
        from converters.files.paths import fresh

        params = self.params if params is None else params
        if quantization.is_quantized(params):
            raise ValueError(f"{self.name} is quantized; load it without quantization to export it")
        folder = fresh(Path(folder), self.checkpoint.folder, force)
        self.checkpoint.write(params, folder)
        return folder
