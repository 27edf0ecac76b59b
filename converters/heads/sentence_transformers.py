"""sentence-transformers folders: modules.json and the files beside it, as steps of a head."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from converters.files.folder import read_json
from converters.files.paths import inside
from converters.heads.modules import Draft, read_module
from converters.heads.transformer_module import Chat
from jaxpool.heads.steps import Normalize, Pool, Unit


@dataclass(frozen=True)
class Pipeline:
    """What a sentence-transformers folder says beyond the transformer.

    steps: pooling and what follows, without the final normalization; routes: the steps of each
    input type of a Router, `steps` being its default (empty where it has none); folders: where the
    steps with parameters lie, and the tables of their tensors; answers: the tokens of a LogitScore;
    activation: torch's name of what a CrossEncoder applies to its logits; sparse: the steps from a
    masked language model's logits to word weights, and those of each input type of a Router;
    chat: where texts are messages; images: fields in the place of preprocessor_config.json's;
    truncate_dim, max_active_dims: how many features of a dense, of a sparse vector are kept.
    """

    steps: tuple = ()
    normalize: bool = False
    folders: dict[str, str] = field(default_factory=dict)
    transformer: str = ""
    model_type: str | None = None
    max_length: int | None = None
    lower_case: bool = False
    chat: Chat | None = None
    images: Mapping[str, Any] = field(default_factory=dict)
    prompts: dict[str, str] = field(default_factory=dict)
    default_prompt: str | None = None
    include_prompt: bool = True
    truncate_dim: int | None = None
    max_active_dims: int | None = None
    routes: tuple[tuple[str, tuple], ...] = ()
    answers: tuple[int, ...] = ()
    activation: str | None = None
    sparse: tuple = ()
    sparse_routes: tuple[tuple[str, tuple], ...] = ()

    @property
    def chains(self) -> list[tuple]:
        """The steps of every route."""
        return [self.steps, *(steps for _, steps in self.routes)]

    @property
    def pools(self) -> bool:
        """Whether the files say how tokens become one vector."""
        return any(isinstance(step, Pool) for steps in self.chains for step in steps)


def read_pipeline(folder: Path) -> Pipeline | None:
    """The pipeline of a folder; None without modules.json. Unknown modules are refused by name."""
    modules = read_json(folder / "modules.json", default=[])
    if not modules:
        return None
    draft = Draft()
    for module in modules:
        path = module.get("path", "")
        inside(folder, path)
        read_module(folder, module["type"], path, draft)
    normalize = all(steps and steps[-1] == Normalize() for steps in draft.chains.values())
    chains = {route: _inner(steps, normalize) for route, steps in draft.chains.items()}
    config = read_json(folder / "config_sentence_transformers.json", default={})
    return Pipeline(
        steps=chains.get(draft.default_route, ()),
        normalize=normalize,
        folders=draft.folders,
        transformer=draft.transformer,
        model_type=draft.model_type,
        max_length=draft.module.max_length,
        lower_case=draft.module.lower_case,
        # a CrossEncoder's messages are those of a pair: see `rerankers`
        chat=None if config.get("model_type") == "CrossEncoder" else draft.module.chat,
        images=draft.module.images,
        prompts={name: text or "" for name, text in (config.get("prompts") or {}).items()},
        default_prompt=config.get("default_prompt_name"),
        include_prompt=draft.include_prompt,
        truncate_dim=config.get("truncate_dim"),
        max_active_dims=config.get("max_active_dims"),
        routes=_named(chains),
        answers=draft.answers,
        activation=config.get("activation_fn"),
        sparse=draft.sparse.get(draft.default_route, ()),
        sparse_routes=_named(draft.sparse),
    )


def _named(chains: dict[str | None, tuple]) -> tuple[tuple[str, tuple], ...]:
    """The chains of routes; none where there is no Router, whose one chain has no name."""
    return tuple((name, steps) for name, steps in chains.items() if name is not None)


def _inner(steps: tuple, last: bool) -> tuple:
    """A chain without its final normalization; those further in are not a caller's to switch."""
    steps = steps[:-1] if last else steps
    return tuple(Unit() if step == Normalize() else step for step in steps)
