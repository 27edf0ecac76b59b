"""What a caller may set: `PoolingParams` a request, `PoolerConfig` a model."""

from collections.abc import Mapping, Sequence
from dataclasses import InitVar, dataclass, fields, replace
from typing import Any

SEQUENCE_POOLINGS = {
    "CLS": "cls",
    "LAST": "lasttoken",
    "MEAN": "mean",
    "MAX": "max",
    "WEIGHTEDMEAN": "weightedmean",
    "MEAN_SQRT": "mean_sqrt_len_tokens",
}
LEARNED = "ATTENTION"  # of a model whose pooling has parameters: it knows no other
TOKEN_POOLINGS = ("ALL", "STEP")
MAX_CHUNK = 2**63 - 1


@dataclass(frozen=True)
class LateChunkingParams:
    """How a text is cut into chunks after it was encoded whole (arXiv 2409.04701).

    chunk_size: tokens a chunk, special tokens counted; char_spans: (start, end) characters of each
    chunk, disjoint and in order. Exactly one of the two.
    """

    chunk_size: int | None = None
    char_spans: Sequence[tuple[int, int]] | None = None

    def __post_init__(self):
        if (self.chunk_size is None) == (self.char_spans is None):
            raise ValueError("late_chunking_params needs exactly one of chunk_size and char_spans")
        size = self.chunk_size
        if size is not None and (type(size) is not int or not 1 <= size <= MAX_CHUNK):
            raise ValueError(f"chunk_size must be an integer in [1, {MAX_CHUNK}], got {size!r}")
        if self.char_spans is not None:
            object.__setattr__(self, "char_spans", _disjoint(self.char_spans))


def _disjoint(spans: Sequence) -> tuple[tuple[int, int], ...]:
    spans, end = tuple((int(start), int(end)) for start, end in spans), 0
    if not spans:
        raise ValueError("char_spans must have at least one (start, end)")
    for start, stop in spans:
        if not end <= start < stop:
            raise ValueError(f"char_spans must be disjoint, in order and not empty, got {spans}")
        end = stop
    return spans


@dataclass(repr=False)
class PoolingParams:
    """Options of one pooling request; None leaves a value to the model.

    use_activation: normalize embeddings, softmax or sigmoid logits (`normalize` and `softmax` are
    its older names); dimensions: leading features kept (Matryoshka models only); step_tag_id,
    returned_token_ids: rows and columns of STEP pooling; late_chunking_params: one vector a chunk
    of a text (token_embed); extra_kwargs: options of scoring. task: the pooling task, or one of
    the model's own adapters (jina-embeddings-v3's "retrieval.query", ...).
    """

    use_activation: bool | None = None
    dimensions: int | None = None
    step_tag_id: int | None = None
    returned_token_ids: list[int] | None = None
    late_chunking_params: LateChunkingParams | Mapping | None = None
    task: str | None = None
    requires_token_ids: bool = False
    skip_reading_prefix_cache: bool | None = None
    late_interaction_params: Any = None
    extra_kwargs: dict[str, Any] | None = None
    output_kind: str = "FINAL_ONLY"
    adapter: int = 0  # the number of the adapter that `task` or a `lora_request` named; 0 is none
    normalize: InitVar[bool | None] = None
    softmax: InitVar[bool | None] = None

    def __post_init__(self, normalize, softmax):
        for name, value in (("normalize", normalize), ("softmax", softmax)):
            if value is None:
                continue
            if self.use_activation not in (None, value):
                raise ValueError(f"{name} is an older name of use_activation: give one of them")
            self.use_activation = value
        if self.output_kind != "FINAL_ONLY":
            raise ValueError(
                f"For pooling output_kind has to be FINAL_ONLY, got {self.output_kind!r}"
            )
        if isinstance(self.late_chunking_params, Mapping):
            self.late_chunking_params = LateChunkingParams(**self.late_chunking_params)

    def copy(self) -> "PoolingParams":
        """The same in an object of its own; `copy.copy` takes ten times as long."""
        made = object.__new__(type(self))
        made.__dict__.update(self.__dict__)
        return made

    def __repr__(self):
        names = (
            "task dimensions use_activation step_tag_id returned_token_ids requires_token_ids "
            "skip_reading_prefix_cache late_interaction_params late_chunking_params extra_kwargs"
        )
        values = ", ".join(f"{name}={getattr(self, name)}" for name in names.split())
        return f"PoolingParams({values})"


@dataclass
class PoolerConfig:
    """How a model pools; every field left None falls back to the checkpoint, then its class.

    pooling_type is shorthand for one of seq_pooling_type (CLS, LAST, MEAN, MAX, WEIGHTEDMEAN,
    MEAN_SQRT, or several joined by "+"; ATTENTION alone where it has parameters) and
    tok_pooling_type (ALL, STEP). logit_mean and logit_sigma calibrate: activation((logit - mean) /
    sigma). enable_chunked_processing embeds texts beyond the model's length in chunks, up to
    max_embed_len tokens; each chunk has special tokens of its own, or, with chunk_special_tokens
    False, only the whole text has (as in vLLM).
    """

    task: str | None = None
    pooling_type: str | None = None
    seq_pooling_type: str | None = None
    tok_pooling_type: str | None = None
    use_activation: bool | None = None
    enable_flash_late_interaction: bool = True
    dimensions: int | None = None
    enable_chunked_processing: bool = False
    max_embed_len: int | None = None
    chunk_special_tokens: bool = True
    logit_mean: float | None = None
    logit_sigma: float | None = None
    step_tag_id: int | None = None
    returned_token_ids: list[int] | None = None
    normalize: InitVar[bool | None] = None

    def __post_init__(self, normalize):
        if normalize is not None:
            raise ValueError("Parameter `normalize` was removed; use `use_activation` instead.")
        if self.logit_sigma == 0:
            raise ValueError("logit_sigma cannot be 0 (division by zero)")
        if self.pooling_type is not None:
            self._expand()
        if self.seq_pooling_type is not None and self.seq_pooling_type != LEARNED:
            sequence_pooling(self.seq_pooling_type)
        if self.tok_pooling_type not in (None, *TOKEN_POOLINGS):
            raise ValueError(
                f"unknown tok_pooling_type {self.tok_pooling_type!r}; known: {TOKEN_POOLINGS}"
            )

    def _expand(self) -> None:
        for name in ("seq_pooling_type", "tok_pooling_type"):
            if getattr(self, name) is not None:
                raise ValueError(f"Cannot set both `pooling_type` and `{name}`")
        tokens = self.pooling_type in TOKEN_POOLINGS
        setattr(self, "tok_pooling_type" if tokens else "seq_pooling_type", self.pooling_type)

    @property
    def step_answers(self) -> tuple[int, ...]:
        """The tokens whose logits STEP pooling of a causal language model returns."""
        return tuple(self.returned_token_ids or ()) if self.tok_pooling_type == "STEP" else ()


def with_task(
    params: PoolingParams | Sequence[PoolingParams] | None, task: str | None
) -> PoolingParams | Sequence[PoolingParams] | None:
    """A call's parameters with its `task`, where it names one."""
    if task is None:
        return params
    if params is None or isinstance(params, PoolingParams):
        return replace(params or PoolingParams(), task=task)
    return [replace(one, task=task) for one in params]


def with_adapter(
    params: PoolingParams | Sequence[PoolingParams] | None, numbers: int | Sequence[int]
) -> PoolingParams | Sequence[PoolingParams]:
    """A call's parameters with the number of an adapter for all prompts, or of one for each."""
    if params is None or isinstance(params, PoolingParams):
        one = params or PoolingParams()
        if isinstance(numbers, int):
            return replace(one, adapter=numbers)
        return [replace(one, adapter=number) for number in numbers]
    each = [numbers] * len(params) if isinstance(numbers, int) else numbers
    return [replace(one, adapter=n) for one, n in zip(params, each, strict=True)]


def sequence_pooling(name: str) -> tuple[str, ...]:
    """The kinds of a `Pool` step that a seq_pooling_type such as "MEAN" or "CLS+MEAN" names."""
    parts = name.split("+")
    if unknown := [part for part in parts if part not in SEQUENCE_POOLINGS]:
        known = [*SEQUENCE_POOLINGS, *TOKEN_POOLINGS]
        raise ValueError(f"unknown pooling type {unknown[0]!r}; known: {known}")
    return tuple(SEQUENCE_POOLINGS[part] for part in parts)


def sequence_pooling_name(kinds: tuple[str, ...]) -> str:
    """The seq_pooling_type of a `Pool` step's kinds: the inverse of `sequence_pooling`."""
    names = {kind: name for name, kind in SEQUENCE_POOLINGS.items()}
    return "+".join(names[kind] for kind in kinds)


def as_pooler_config(value: "PoolerConfig | Mapping[str, Any] | None") -> PoolerConfig:
    """A `PoolerConfig` from an object, a dict of its fields, or nothing."""
    if value is None:
        return PoolerConfig()
    if isinstance(value, PoolerConfig):
        return value
    known = {field.name for field in fields(PoolerConfig)} | {"normalize"}
    if unknown := sorted(set(value) - known):
        raise ValueError(f"PoolerConfig has no field {unknown}; fields: {sorted(known)}")
    return PoolerConfig(**value)
