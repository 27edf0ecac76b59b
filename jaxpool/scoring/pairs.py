"""Scores of text pairs, as pure functions that `LLM.score` and the server share.

`prepare_scores` makes a `Scoring` of two sides: what to compute, and how the results become one
score a pair. Cross-encoders read both texts at once, listwise rerankers a query with many
documents; bi-encoders compare two embeddings by their cosine, late interaction two matrices of
token vectors by MaxSim.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from itertools import islice
from typing import Any, NamedTuple

import numpy as np

from jaxpool.engine.shared_prefix import common
from jaxpool.errors import RequestError
from jaxpool.heads import queries
from jaxpool.images.prepare import requests_of
from jaxpool.scoring import compare, listwise
from jaxpool.scoring.call import Call, checked
from jaxpool.scoring.contents import in_template
from jaxpool.scoring.documents import marked
from jaxpool.scoring.fit import fit
from jaxpool.scoring.parts import Pair, Part, Scoring
from jaxpool.tasks.pooling_params import PoolingParams
from jaxpool.tasks.task import Task
from jaxpool.tasks.validate import resolve_params
from jaxpool.text.late_interaction import tells_sides
from jaxpool.text.options import Tokenization
from jaxpool.text.prepare import encode
from jaxpool.text.prepared import Prepared
from jaxpool.text.prompts import Shortened
from jaxpool.text.request import requests
from jaxpool.text.shorten import shorten

HYBRID = ("embed", "sparse", "token_embed")  # in the order of their weights


def prepare_scores(
    model,
    data_1: Any,
    data_2: Any,
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
    call = checked(model, data_1, data_2, params, tokenization_kwargs, chat_template)
    if call.options.weights is None:
        scorer = _listwise if model.listwise else SCORERS[task.name]
        scorer = _apart if model.checkpoint.apart else scorer
        return scorer(model, task, call)
    mixed = _hybrid(model, call)
    return replace(mixed, combine=lambda results: mixed.combine(results)[compare.MIXED])


def prepare_hybrid(model, data_1, data_2, params=None, tokenization_kwargs=None) -> Scoring:
    """The scores of dense, sparse and token vectors from one forward, and their weighted means.

    As `prepare_scores`, but `combine` gives a dict by FlagEmbedding's names: "dense", "sparse",
    "colbert", "sparse+dense" and "colbert+sparse+dense". Source: Chen et al., arXiv 2402.03216.
    """
    return _hybrid(model, checked(model, data_1, data_2, params, tokenization_kwargs, None))


def comparing(model, tasks: Sequence[Task]) -> dict:
    """{task that gives the token vectors of queries: task that scores documents with them}."""
    by_name = {task.name: task for task in tasks}
    found: dict = {}
    vectors = by_name.get("token_embed")
    if vectors and model.pooling_task == vectors.name and not model.listwise:
        found[vectors] = vectors.route("document").compared
    if set(HYBRID) <= set(by_name):
        together = tuple(by_name[name] for name in HYBRID)
        found[together] = _answering(together)
    return found


def _cross_encoder(model, task: Task, call: Call) -> Scoring:
    """One prompt a pair, read by the classifier."""
    queries, documents = call.queries, call.documents
    if task.width(model.arch.dim) != 1 or task.rows is not None:
        raise ValueError("Scoring API is only enabled for num_labels == 1.")
    pairs = list(zip(compare.repeated(queries, documents), documents, strict=True))
    requests = templated(model, task, pairs, call, call.params)
    if len(queries) == 1 and model.context:
        prefix = common([r.ids for r in requests if not r.sees])
        requests = [r if r.sees else replace(r, shared=prefix) for r in requests]
    names = [Pair(str(i), r.ids.tolist()) for i, r in enumerate(requests)]
    return Scoring((Part(task, requests),), names, lambda results: np.concatenate(results))


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
        r.keeping(rule.places(tokenizer, r.ids)) for r in templated(model, task, asked, call, raw)
    ]
    names = [
        Pair(str(i), r.ids.tolist())
        for r, prompt in zip(requests, prompts, strict=True)
        for i in prompt.documents
    ]
    return Scoring((Part(task, requests),), names, partial(listwise.scores, prompts))


def _apart(model, task: Task, call: Call) -> Scoring:
    """Each document once, by itself; then one prompt a pair, which reads its vectors."""
    rule, count, reading = model.checkpoint.apart, len(call.documents), model.task("token_embed")
    texts, order = rule.read(call.documents)
    options = Tokenization.of(call.tokenization, model.max_length).shorter(rule.document_length)
    tokens = encode(model, texts, replace(options, special_tokens=False))
    settings = [(one,) for one in resolve_params(model, reading, None, len(texts))]
    documents = requests(model, (reading,), tokens, settings)
    queries = [shorten(model.tokenizer, query, rule.query_length) for query in call.queries]
    pairs = list(zip(compare.repeated(queries, call.documents), call.documents, strict=True))
    prompts = templated(model, task, pairs, call, call.params)
    read = [documents[place].ids for place in order]
    names = [Pair(str(i), [*r.ids.tolist(), *read[i].tolist()]) for i, r in enumerate(prompts)]
    parts = Part(reading, documents), Part(task, prompts, rule.complete(order))
    return Scoring(parts, names, lambda results: np.concatenate(results[-count:]))


def templated(model, task: Task, asked: list, call: Call, params) -> list[Prepared]:
    """A request for each (query, document, ...): the template's text, or a pair of texts."""
    options = Tokenization.of(call.tokenization, model.max_length)
    before = [any(isinstance(text, Shortened) for text in texts) for texts in asked]
    cut = [False] * len(asked)
    if call.template is not None:
        chat = model.tokenizer.transformers
        render = partial(call.template.render, chat, options=call.options.variables)
        options = replace(options, special_tokens=call.template.special_tokens)
    settings = [(one,) for one in resolve_params(model, task, params, len(asked))]
    if model.conversation and call.template is not None:
        words = [in_template(model.conversation, sides, render) for sides in asked]
        return requests_of(model, words, options, (task,), settings)
    marks = call.template is not None and model.arch.compression is not None
    if call.template is not None:
        asked, fitted, cut = fit(model.tokenizer, render, asked, options)
    tokens = encode(model, asked, options, offsets=marks)
    tokens = marked(tokens, asked, fitted, render) if marks else tokens
    made = requests(model, (task,), tokens, settings)
    each = zip(made, before, cut, strict=True)
    return [replace(r, cut=r.cut or early or late) for r, early, late in each]


class Sides(NamedTuple):
    """Queries and documents, each text by itself; `pairs` names their scores."""

    queries: Part
    documents: Part
    pairs: list[Pair]


def _sides(model, task: Task | tuple[Task, ...], call: Call) -> Sides:
    parts = [
        Part(
            task if isinstance(task, tuple) else task.route(side),
            model.requests(
                task,
                texts,
                call.params,
                call.tokenization,
                input_type=side if tells_sides(model) and not call.options.plain else None,
            ),
        )
        for side, texts in (("query", call.queries), ("document", call.documents))
    ]
    asked, answers = (part.requests for part in parts)
    count = len(asked)
    ids = [r.ids.tolist() for r in (*asked, *answers)]
    names = [
        Pair(f"{q}_{count + d}", [*ids[q], model.tokenizer.pad_id, *ids[count + d]])
        for d, q in enumerate(compare.repeated(list(range(count)), call.documents))
    ]
    return Sides(parts[0], parts[1], names)


def _bi_encoder(model, task: Task, call: Call) -> Scoring:
    """Two embeddings, by their cosine."""
    asked, answers, names = _sides(model, task, call)
    count = len(asked.requests)
    # A batch may hold both sides, unless they take different routes through the model.
    same = asked.task == answers.task
    parts = (Part(task, asked.requests + answers.requests),) if same else (asked, answers)
    return Scoring(parts, names, lambda r: compare.cosines(r[:count], r[count:]))


def _late_interaction(model, task: Task, call: Call) -> Scoring:
    """The queries' token vectors; then the documents', compared with them where they are made."""
    settings = model.late_interaction
    score = partial(compare.maxsims, mean=settings is not None and settings.mean)
    if settings is None or settings.pooling is None or call.options.plain:
        return _compared(model, task, call, score)
    # Token vectors are merged on the host: documents are then compared there, too.
    asked, answers, names = _sides(model, task, call)
    count = len(asked.requests)

    def combine(results: Sequence) -> np.ndarray:
        return score(results[:count], compare.matched(results[:count], results[count:]))

    return Scoring((asked, answers), names, combine)


def _hybrid(model, call: Call) -> Scoring:
    """Each text by itself, as three kinds of vectors."""
    if missing := [name for name in HYBRID if name not in model.tasks]:
        raise RequestError(
            f"weights need the tasks {list(HYBRID)} in one model; this one has no {missing}"
        )
    tasks = tuple(model.task(name) for name in HYBRID)
    mix = partial(compare.mixtures, weights=call.options.weights or (1, 1, 1))
    return _compared(model, tasks, call, mix)


def _compared(model, task: Task | tuple[Task, ...], call: Call, score: Callable) -> Scoring:
    """Queries as token vectors, by the last of some tasks; documents as their MaxSim with those.

    `score` takes the results of both sides to one score a pair.
    """
    asked, answers, names = _sides(model, task, call)
    count, several = len(asked.requests), isinstance(task, tuple)
    last = task[-1] if isinstance(task, tuple) else task
    features = last.width(model.arch.dim)

    def each(function: Callable, results: Sequence) -> Sequence:
        """A function of the token vectors of each document's query."""
        of_query = [function(result[-1] if several else result) for result in results]
        return compare.repeated(of_query, answers.requests)

    def complete(requests: list[Prepared], results: Sequence) -> list[Prepared]:
        cuts = each(partial(queries.cut, features=features), results)
        pairs = zip(requests, cuts, strict=True)
        return [request.against(piece) for request, cut in pairs for piece in cut]

    def combine(results: Sequence) -> Any:
        asked, found = results[:count], iter(results[count:])
        pieces = each(queries.pieces, asked)
        return score(asked, [compare.added(list(islice(found, size))) for size in pieces])

    parts = (asked, Part(_answering(answers.task), answers.requests, complete))
    return Scoring(parts, names, combine)


def _answering(task: Task | tuple[Task, ...]) -> Task | tuple[Task, ...]:
    return (*task[:-1], task[-1].compared) if isinstance(task, tuple) else task.compared


SCORERS = {"classify": _cross_encoder, "embed": _bi_encoder, "token_embed": _late_interaction}
