"""Scores of text pairs in pure phases, which `LLM.score` and the server share.

`prepare_scores` makes a `Scoring` of two sides: what to compute, and how the results become one
score a pair. Cross-encoders read both texts at once, listwise rerankers a query with many
documents; bi-encoders compare two embeddings by their cosine, late interaction two matrices of
token vectors by MaxSim.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, NamedTuple

import numpy as np

from jaxpool import compare, listwise, similarity
from jaxpool.errors import RequestError
from jaxpool.inputs import Prepared, encode, prepare, request
from jaxpool.prefix import common
from jaxpool.requests import PoolingParams
from jaxpool.score_template import ScoreTemplate, load_template
from jaxpool.task import Task
from jaxpool.tokenization import Tokenization
from jaxpool.validate import resolve_params


@dataclass(frozen=True)
class Pair:
    """One score to be: its id, and the tokens it is computed from."""

    request_id: str
    tokens: list[int]


@dataclass(frozen=True)
class Scoring:
    """Scores to be computed.

    parts: tasks with the requests to run under each; pairs: one a score; combine: the results of
    all parts' requests, in order, to float32 scores `[len(pairs)]`.
    """

    parts: tuple[tuple[Task, list[Prepared]], ...]
    pairs: list[Pair]
    combine: Callable[[Sequence[np.ndarray]], np.ndarray]

    @property
    def tokens(self) -> int:
        """Tokens to compute: each distinct text once."""
        return sum(len(request.ids) for _, requests in self.parts for request in requests)


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


HYBRID = ("embed", "sparse", "token_embed")  # in the order of their weights
OPTIONS = frozenset(Options.__dataclass_fields__)


class Call(NamedTuple):
    """The checked texts of a call, and what came with them."""

    queries: list[str]
    documents: list[str]
    params: PoolingParams
    tokenization: Mapping[str, Any]
    options: Options
    template: ScoreTemplate | None


def prepare_scores(
    model,
    data_1: str | Sequence[str],
    data_2: str | Sequence[str],
    params: PoolingParams | None = None,
    tokenization_kwargs: Mapping[str, Any] | None = None,
    chat_template: str | None = None,
) -> Scoring:
    """The scores of one query with one or several documents, or of N queries with N documents.

    Raises before anything is computed. `chat_template` (text, file or name) replaces the model's
    own score template.
    """
    task = model.task()
    if task.name not in SCORERS:
        raise ValueError("This model does not support the Scoring API.")
    call = _checked(model, data_1, data_2, params, tokenization_kwargs, chat_template)
    if call.options.weights is None:
        scorer = _listwise if model.listwise else SCORERS[task.name]
        return scorer(model, task, call)
    mixed = _hybrid(model, call)
    return replace(mixed, combine=lambda results: mixed.combine(results)[compare.MIXED])


def prepare_hybrid(model, data_1, data_2, params=None, tokenization_kwargs=None) -> Scoring:
    """The scores of dense, sparse and token vectors from one forward, and their weighted means.

    As `prepare_scores`, but `combine` gives a dict by FlagEmbedding's names: "dense", "sparse",
    "colbert", "sparse+dense" and "colbert+sparse+dense". Source: Chen et al., arXiv 2402.03216.
    """
    return _hybrid(model, _checked(model, data_1, data_2, params, tokenization_kwargs, None))


def _checked(model, data_1, data_2, params, tokenization_kwargs, chat_template) -> Call:
    queries, documents = _texts(model, data_1), _texts(model, data_2)
    _check_counts(len(queries), len(documents))
    params = params or PoolingParams()
    options = Options.of(params.extra_kwargs, model.max_length)
    cut = partial(shorten, model.tokenizer)
    queries = [cut(text, options.max_tokens_per_query) for text in queries]
    documents = [cut(text, options.max_tokens_per_doc) for text in documents]
    template = load_template(chat_template) if chat_template else model.score_template
    return Call(queries, documents, params, tokenization_kwargs or {}, options, template)


def compile_programs(model) -> None:
    """Compile what scoring runs beside batches, in models that score by token vectors."""
    alone = model.pooling_task == "token_embed" and not model.listwise
    if alone or set(HYBRID) <= set(model.tasks):
        features = model.tasks["token_embed"].width(model.arch.dim)
        for function, *sides in similarity.tiles(model.max_length, features):
            model.executor.program(function, *sides)


def _texts(model, data: Any) -> list[str]:
    texts = [data] if isinstance(data, str | Mapping) else list(data)
    for text in texts:
        if isinstance(text, Mapping):
            name = model.checkpoint.architecture
            raise RequestError(f"MultiModalParam is not supported for {name}")
        if not isinstance(text, str):
            raise TypeError(f"texts to score must be strings, got {type(text).__name__}")
    return texts


def _check_counts(queries: int, documents: int) -> None:
    if queries > 1 and queries != documents:
        raise ValueError("Input lengths must be either 1:1, 1:N or N:N")
    if not queries:
        raise ValueError("At least one text element must be given")
    if not documents:
        raise ValueError("At least one text_pair element must be given")


def shorten(tokenizer, text: str, limit: int) -> str:
    """`text` up to the end of its token number `limit`; all of it where `limit` is 0."""
    while limit and text:
        offsets = tokenizer([text], special_tokens=False, offsets=True)[0].offsets
        if len(offsets) <= limit:
            break
        end = min(offsets[limit - 1][1], offsets[limit][0])
        text = text[: min(int(end), len(text) - 1)]
    return text


def _cross_encoder(model, task: Task, call: Call) -> Scoring:
    """One prompt a pair, read by the classifier."""
    queries, documents = call.queries, call.documents
    if task.width(model.arch.dim) != 1:
        raise ValueError("Scoring API is only enabled for num_labels == 1.")
    pairs = list(zip(compare.repeated(queries, documents), documents, strict=True))
    requests = _templated(model, task, pairs, call, call.params)
    if len(queries) == 1 and model.executor.context:
        prefix = common([r.ids for r in requests])
        requests = [replace(r, shared=prefix) for r in requests]
    names = [Pair(str(i), r.ids.tolist()) for i, r in enumerate(requests)]
    return Scoring(((task, requests),), names, lambda results: np.concatenate(results))


def _listwise(model, task: Task, call: Call) -> Scoring:
    """One prompt for a query and as many of its documents as share one."""
    rule, tokenizer = model.listwise, model.tokenizer
    queries = [shorten(tokenizer, rule.clean(q), rule.query_length) for q in call.queries]
    documents = [shorten(tokenizer, rule.clean(d), rule.document_length) for d in call.documents]
    lengths = [[len(t.ids) for t in tokenizer(side)] for side in (queries, documents)]
    prompts = rule.prompts(*lengths, model.max_length)
    asked = [(queries[p.query], *(documents[i] for i in p.documents)) for p in prompts]
    raw = replace(call.params, use_activation=False)  # cosines come after the queries' mean
    requests = [
        replace(r, keep=rule.places(tokenizer, r.ids))
        for r in _templated(model, task, asked, call, raw)
    ]
    names = [
        Pair(str(i), r.ids.tolist())
        for r, prompt in zip(requests, prompts, strict=True)
        for i in prompt.documents
    ]
    return Scoring(((task, requests),), names, partial(listwise.scores, prompts))


def _templated(model, task: Task, asked: list[tuple], call: Call, params) -> list[Prepared]:
    """A request for each (query, document, ...): the template's text, or a pair of texts."""
    options = Tokenization.of(call.tokenization, model.max_length)
    if call.template is not None:
        asked = call.template.render(model.tokenizer.transformers, asked, call.options.variables)
        options = replace(options, special_tokens=call.template.special_tokens)
    (settings,) = resolve_params(model, task, params, 1)
    return [request(task, tokens, settings) for tokens in encode(model, asked, options)]


def _two_sided(score: Callable, model, task: Task | tuple[Task, ...], call: Call) -> Scoring:
    """Each text by itself; `score` takes the results of both sides to one score a pair."""
    sides = [
        (
            task if isinstance(task, tuple) else task.route(side),
            prepare(
                model,
                task,
                texts,
                call.params,
                call.tokenization,
                input_type=None if call.options.plain else side,
            ),
        )
        for side, texts in (("query", call.queries), ("document", call.documents))
    ]
    (first, asked), (second, answers) = sides
    count = len(asked)
    ids = [r.ids.tolist() for r in (*asked, *answers)]
    names = [
        Pair(f"{q}_{count + d}", [*ids[q], model.tokenizer.pad_id, *ids[count + d]])
        for d, q in enumerate(compare.repeated(list(range(count)), call.documents))
    ]
    # One batch may mix both sides, unless each has its own path through the model.
    parts = ((first, asked + answers),) if first == second else tuple(sides)
    return Scoring(parts, names, lambda results: score(results[:count], results[count:]))


def _late_interaction(model, task: Task, call: Call) -> Scoring:
    settings = model.late_interaction
    mean = settings is not None and settings.mean
    score = partial(compare.maxsims, model.executor.apply, mean=mean)
    return _two_sided(score, model, task, call)


def _hybrid(model, call: Call) -> Scoring:
    """Each text by itself, as three kinds of vectors."""
    if missing := [name for name in HYBRID if name not in model.tasks]:
        raise RequestError(
            f"weights need the tasks {list(HYBRID)} in one model; this one has no {missing}"
        )
    tasks = tuple(model.task(name) for name in HYBRID)
    mix = partial(compare.mixtures, model.executor.apply, weights=call.options.weights or (1, 1, 1))
    return _two_sided(mix, model, tasks, call)


SCORERS = {
    "classify": _cross_encoder,
    "embed": partial(_two_sided, compare.cosines),
    "token_embed": _late_interaction,
}
