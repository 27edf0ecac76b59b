"""Hard negatives of texts: pairs in, rows to train on out.

Names, defaults and formats are those of sentence-transformers' `mine_hard_negatives`.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from jaxpool.search.negatives import Rules, judged

# What concerns how sentence-transformers computes, and not what it finds.
IGNORED = {"batch_size", "faiss_batch_size", "use_faiss", "use_multi_process", "verbose"}
IGNORED |= {"cache_folder"}


class Mined(NamedTuple):
    """A query, its answers and its negatives, each with its score; the nearest negatives first."""

    query: str
    positives: list[tuple[str, float]]
    negatives: list[tuple[str, float]]


def mine_hard_negatives(
    dataset: Any,
    model: Any,
    anchor_column_name: str | None = None,
    positive_column_name: str | None = None,
    corpus: Sequence[str] | None = None,
    cross_encoder: Any = None,
    *,
    query_prompt_name: str | None = None,
    query_prompt: str | None = None,
    corpus_prompt_name: str | None = None,
    corpus_prompt: str | None = None,
    output_format: str = "triplet",
    output_scores: bool = False,
    seed: int = 0,
    **rules: Any,
) -> Any:
    """Queries and answers, with texts that lie near the query and do not answer it.

    dataset: a `datasets.Dataset`, pyarrow Table, dict of columns or list of dicts, and the result
    is the same; a query that is there twice has several answers. model: has `encode_query` and
    `encode_document`; cross_encoder: has `predict`, and the rules then judge by its scores.
    corpus: more texts to find negatives in. output_format: triplet, n-tuple, labeled-pair or
    labeled-list. rules: the fields of `Rules`; batch_size, use_faiss, ... have no effect.
    """
    rules = {name: value for name, value in rules.items() if name not in IGNORED}
    if rules.get("include_positives"):
        output_format = "n-tuple"  # which keeps their order
    if output_format not in FORMATS:
        raise ValueError(f"output_format must be one of {list(FORMATS)}, got {output_format!r}")
    names, columns = _columns(dataset, anchor_column_name, positive_column_name)
    answers: dict[str, dict[str, None]] = {}
    for query, positive in zip(*columns, strict=True):
        answers.setdefault(query, {})[positive] = None
    documents = list(dict.fromkeys([*(corpus or ()), *columns[1]]))
    asked = model.encode_query(list(answers), prompt_name=query_prompt_name, prompt=query_prompt)
    vectors = model.encode_document(documents, prompt_name=corpus_prompt_name, prompt=corpus_prompt)
    mined = _mined(answers, documents, asked, vectors, cross_encoder, seed=seed, **rules)
    make, told = FORMATS[output_format], (names, Rules(**rules).num_negatives, output_scores)
    return _like(dataset, [row for each in mined for row in make(each, *told)])


def _columns(
    dataset: Any, anchor: str | None, positive: str | None
) -> tuple[tuple[str, str], tuple[list[str], list[str]]]:
    """The names of the two columns, and their texts."""
    listed = isinstance(dataset, Sequence) and not hasattr(dataset, "column_names")
    if not len(dataset):
        raise ValueError("there are no pairs to find negatives for")
    there = list(getattr(dataset, "column_names", dataset[0] if listed else dataset))
    chosen = (anchor or there[0], positive or there[min(1, len(there) - 1)])
    if missing := [name for name in chosen if name not in there]:
        raise ValueError(f"no column {missing[0]!r}; columns: {there}")
    if chosen[0] == chosen[1]:
        raise ValueError(f"pairs have two columns, a query and its answer; columns: {there}")

    def column(name: str) -> list[str]:
        if listed:
            return [row[name] for row in dataset]
        values = dataset[name]
        return values.to_pylist() if hasattr(values, "to_pylist") else list(values)

    return chosen, (column(chosen[0]), column(chosen[1]))


def _mined(
    answers: Mapping[str, Mapping[str, None]],
    documents: list[str],
    asked: Any,
    rows: Any,
    cross: Any,
    **rules,
) -> Iterator[Mined]:
    places = {text: row for row, text in enumerate(documents)}
    queries = list(answers)

    def rerank(query: int, rows: np.ndarray) -> np.ndarray:
        return np.asarray(cross.predict([(queries[query], documents[row]) for row in rows]))

    positives = [[places[text] for text in texts] for texts in answers.values()]
    again = None if cross is None else rerank
    hits, right = judged(asked, rows, positives, rerank=again, **rules)
    for query, own, scores, negatives in zip(
        answers, right, hits.scores, hits.indices, strict=True
    ):
        found = zip(negatives.tolist(), scores.tolist(), strict=True)
        yield Mined(
            query,
            list(zip(answers[query], own.tolist(), strict=True)),
            [(documents[row], score) for row, score in found if row >= 0],
        )


def _triplets(mined: Mined, names: tuple[str, str], count: int, scored: bool) -> Iterator[dict]:
    for positive, right in mined.positives:
        for negative, wrong in mined.negatives:
            row: dict = {names[0]: mined.query, names[1]: positive, "negative": negative}
            yield row | ({"scores": [right, wrong]} if scored else {})


def _tuples(mined: Mined, names: tuple[str, str], count: int, scored: bool) -> Iterator[dict]:
    """Only where there are as many negatives as were asked for."""
    if len(mined.negatives) < count:
        return
    texts = {f"negative_{i}": text for i, (text, _) in enumerate(mined.negatives, start=1)}
    wrong = [score for _, score in mined.negatives]
    for positive, right in mined.positives:
        row: dict = {names[0]: mined.query, names[1]: positive, **texts}
        yield row | ({"scores": [right, *wrong]} if scored else {})


def _pairs(mined: Mined, names: tuple[str, str], count: int, scored: bool) -> Iterator[dict]:
    for label, side in ((1, mined.positives), (0, mined.negatives)):
        for text, score in side:
            told = {"score": score} if scored else {"label": label}
            yield {names[0]: mined.query, names[1]: text, **told}


def _lists(mined: Mined, names: tuple[str, str], count: int, scored: bool) -> Iterator[dict]:
    if not mined.negatives:
        return
    for positive in mined.positives:
        texts, scores = zip(positive, *mined.negatives, strict=True)
        labels = [1] + [0] * len(mined.negatives)
        told: dict = {"scores": list(scores)} if scored else {"labels": labels}
        yield {names[0]: mined.query, names[1]: list(texts), **told}


FORMATS: dict[str, Callable[[Mined, tuple[str, str], int, bool], Iterator[dict]]] = {
    "triplet": _triplets,
    "n-tuple": _tuples,
    "labeled-pair": _pairs,
    "labeled-list": _lists,
}


def _like(dataset: Any, rows: list[dict]) -> Any:
    """Rows in the form of the dataset that they come of."""
    if hasattr(dataset, "from_list"):  # of datasets
        return type(dataset).from_list(rows)
    if hasattr(dataset, "from_pylist"):  # of pyarrow
        return type(dataset).from_pylist(rows)
    if isinstance(dataset, Mapping):
        return {name: [row[name] for row in rows] for name in (rows[0] if rows else ())}
    return rows
