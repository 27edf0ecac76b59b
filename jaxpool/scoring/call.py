"""What a scoring call is about: its texts and options, checked.

One query with one or several documents, or N queries with N documents.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from jaxpool.errors import RequestError
from jaxpool.scoring.template import ScoreTemplate, load_template
from jaxpool.tasks.pooling_params import PoolingParams
from jaxpool.text.prompts import Pictures, of_parts
from jaxpool.text.shorten import shorten


@dataclass(frozen=True)
class Options:
    """What a call may ask of scoring, beyond `PoolingParams`: its `extra_kwargs`.

    max_tokens_per_query, max_tokens_per_doc: where each text is cut (0: nowhere);
    chat_template_kwargs: variables of the template; instruction: the commonest of them; plain:
    late interaction without markers, expansion and skips, as vLLM has it; weights: of the dense,
    sparse and token vectors' scores, where a model has all three.
    """

    max_tokens_per_query: int = 0
    max_tokens_per_doc: int = 0
    chat_template_kwargs: Mapping[str, Any] | None = None
    instruction: str | None = None
    plain: bool = False
    weights: Sequence[float] | None = None

    @classmethod
    def of(cls, extra: Mapping[str, Any] | None, limit: int) -> "Options":
        """The options among `extra_kwargs`, for a model of `limit` tokens."""
        known = {name: value for name, value in (extra or {}).items() if name in OPTIONS}
        options = cls(**known)
        for name in ("max_tokens_per_query", "max_tokens_per_doc"):
            value = getattr(options, name)
            if value < 0:
                raise RequestError(f"{name} must be a non-negative integer")
            if value >= limit:
                raise RequestError(f"{name} ({value}) must be less than max_model_len ({limit}).")
        if options.weights is not None and (len(options.weights) != 3 or sum(options.weights) <= 0):
            raise RequestError(
                "weights must be three numbers (of dense, sparse and token vectors) with a sum "
                f"above 0, got {options.weights}"
            )
        return options

    @property
    def variables(self) -> dict[str, Any]:
        """The template's variables."""
        told = {} if self.instruction is None else {"instruction": self.instruction}
        return told | dict(self.chat_template_kwargs or {})


OPTIONS = frozenset(Options.__dataclass_fields__)


class Call(NamedTuple):
    """The checked texts of a call (`Shortened` ones were too long), or pictures in their place."""

    queries: list
    documents: list
    params: PoolingParams
    tokenization: Mapping[str, Any]
    options: Options
    template: ScoreTemplate | None


def checked(model, data_1, data_2, params, tokenization_kwargs, chat_template) -> Call:
    """The call of these arguments; raises where they cannot be scored."""
    queries, documents = _texts(model, data_1), _texts(model, data_2)
    _check_counts(len(queries), len(documents))
    params = params or PoolingParams()
    options = Options.of(params.extra_kwargs, model.max_length)
    queries = [_cut(model, one, options.max_tokens_per_query) for one in queries]
    documents = [_cut(model, one, options.max_tokens_per_doc) for one in documents]
    template = load_template(chat_template) if chat_template else model.score_template
    return Call(queries, documents, params, tokenization_kwargs or {}, options, template)


def _texts(model, data: Any) -> list[str | Pictures]:
    """The texts of a side; `{"content": [...]}` is one of parts, in models of pictures."""
    given = [data] if isinstance(data, str | Mapping | Pictures) else list(data)
    if model.processor is None and any(isinstance(one, Mapping | Pictures) for one in given):
        name = model.checkpoint.architecture
        raise RequestError(f"MultiModalParam is not supported for {name}")
    return [_text(one) for one in given]


def _text(given: Any) -> str | Pictures:
    if isinstance(given, str | Pictures):
        return given
    if isinstance(given, Mapping) and "content" in given:
        return of_parts(given["content"])
    raise TypeError(f"texts to score must be strings, got {type(given).__name__}")


def _cut(model, text: str | Pictures, limit: int) -> str | Pictures:
    return shorten(model.tokenizer, text, limit) if isinstance(text, str) else text


def _check_counts(queries: int, documents: int) -> None:
    if queries > 1 and queries != documents:
        raise ValueError("Input lengths must be either 1:1, 1:N or N:N")
    if not queries:
        raise ValueError("At least one text element must be given")
    if not documents:
        raise ValueError("At least one text_pair element must be given")
