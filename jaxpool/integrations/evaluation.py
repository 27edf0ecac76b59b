"""Evaluation on local data: retrieval, similarity, reranking; each a function that gives a dict.

`model` is a `SentenceTransformer` or `CrossEncoder` of `jaxpool.integrations`, or of
sentence-transformers itself. Definitions are those of its evaluators.
"""

import json
import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from jaxpool.search.exact import top_k


def information_retrieval(
    model: Any,
    queries: Mapping[str, str],
    corpus: Mapping[str, str],
    relevant: Mapping[str, Collection[str]],
    k: int = 10,
    score: str = "cosine",
) -> dict[str, float]:
    """nDCG, MRR, recall, precision, accuracy at k and MAP at 100 of exact search.

    queries, corpus: texts by their ids; relevant: the ids of each query's answers.
    """
    asked = [name for name in queries if relevant.get(name)]
    names = list(corpus)
    vectors = model.encode_query([queries[name] for name in asked])
    documents = model.encode_document([corpus[name] for name in names])
    hits = top_k(vectors, documents, max(k, 100), score=score)
    found = []
    for name, row in zip(asked, hits.indices, strict=True):
        right = np.array([names[i] in relevant[name] for i in row], float)
        found.append(ranking(right, len(relevant[name]), k))
    return {key: float(np.mean([one[key] for one in found])) for key in found[0]}


def ranking(right: np.ndarray, answers: int, k: int) -> dict[str, float]:
    """The measures of one ranked list: 1 where a place holds one of the `answers`, else 0."""
    top, discounts = right[:k], 1 / np.log2(np.arange(2, k + 2))
    ideal = discounts[: min(answers, k)].sum()
    first = np.flatnonzero(top)
    precisions = np.cumsum(right[:100]) / np.arange(1, len(right[:100]) + 1)
    return {
        f"ndcg@{k}": (top * discounts[: len(top)]).sum() / ideal,
        f"mrr@{k}": 1 / (first[0] + 1) if len(first) else 0.0,
        f"recall@{k}": top.sum() / answers,
        f"precision@{k}": top.sum() / k,
        f"accuracy@{k}": float(len(first) > 0),
        "map@100": (precisions * right[:100]).sum() / min(answers, 100),
    }


def similarity(
    model: Any, sentences1: Sequence[str], sentences2: Sequence[str], scores: Sequence[float]
) -> dict[str, float]:
    """Pearson and Spearman correlations of the similarities of pairs with given scores (STS)."""
    a, b = model.encode(list(sentences1)), model.encode(list(sentences2))
    found = np.asarray(model.similarity_pairwise(a, b), float)
    wanted = np.asarray(scores, float)
    pearson = np.corrcoef(found, wanted)[0, 1]
    spearman = np.corrcoef(_ranks(found), _ranks(wanted))[0, 1]
    return {"pearson": float(pearson), "spearman": float(spearman)}


def _ranks(values: np.ndarray) -> np.ndarray:
    """The place of each value; equal ones share the mean of theirs."""
    _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    ends = np.cumsum(counts)
    return (ends - (counts - 1) / 2)[inverse]


def reranking(model: Any, samples: Sequence[Mapping[str, Any]], k: int = 10) -> dict[str, float]:
    """nDCG and MRR at k, and MAP, of the order of each sample's passages.

    samples: `query`, and the lists `positive` and `negative`; of equal scores the positive is last.
    """
    found = []
    for sample in samples:
        positive = list(sample["positive"])
        passages = [*positive, *sample["negative"]]
        if not positive or len(passages) == len(positive):
            continue
        scores = _scores(model, sample["query"], passages)
        right = np.arange(len(passages)) < len(positive)
        order = np.lexsort((right, -scores))
        told = ranking(right[order].astype(float), len(positive), k)
        precisions = np.cumsum(right[order]) / np.arange(1, len(passages) + 1)
        mean = (precisions * right[order]).sum() / len(positive)
        found.append({f"ndcg@{k}": told[f"ndcg@{k}"], f"mrr@{k}": told[f"mrr@{k}"], "map": mean})
    return {key: float(np.mean([one[key] for one in found])) for key in found[0]}


def _scores(model: Any, query: str, passages: list[str]) -> np.ndarray:
    if hasattr(model, "predict"):
        return np.asarray(model.predict([(query, passage) for passage in passages]))
    vectors = model.encode_document(passages)
    return np.asarray(model.similarity(model.encode_query([query]), vectors))[0]


def nano_beir(model: Any, folder: str | Path, k: int = 10) -> dict[str, dict[str, float]]:
    """`information_retrieval` on each data set of a folder in NanoBEIR's layout, and their mean.

    The folder has `corpus`, `queries` and `qrels`, each with a .parquet or .jsonl file a data set:
    columns `_id`, `text`; of qrels `query-id`, `corpus-id`.
    """
    folder = Path(folder)
    found = {}
    for name in sorted({_data_set(file) for file in _files(folder, "corpus")}):
        corpus, queries = (
            {row["_id"]: row["text"] for row in _rows(folder, kind, name) if row["text"]}
            for kind in ("corpus", "queries")
        )
        relevant: dict[str, set] = {}
        for row in _rows(folder, "qrels", name):
            answers = row["corpus-id"]
            answers = answers if isinstance(answers, list) else [answers]
            relevant.setdefault(row["query-id"], set()).update(answers)
        found[name] = information_retrieval(model, queries, corpus, relevant, k)
    if not found:
        raise ValueError(f"{folder}: no corpus/*.parquet or *.jsonl")
    keys = next(iter(found.values()))
    mean = {key: float(np.mean([one[key] for one in found.values()])) for key in keys}
    return found | {"mean": mean}


def _files(folder: Path, kind: str) -> list[Path]:
    return sorted(f for f in (folder / kind).glob("*") if f.suffix in (".parquet", ".jsonl"))


def _data_set(file: Path) -> str:
    """The name of "NanoNQ.jsonl" and "NanoNQ-00000-of-00001.parquet": NanoNQ."""
    return re.sub(r"-\d+-of-\d+$", "", file.stem)


def _rows(folder: Path, kind: str, name: str) -> Iterator[dict]:
    for file in (file for file in _files(folder, kind) if _data_set(file) == name):
        if file.suffix == ".parquet":
            from pyarrow import parquet

            yield from parquet.read_table(file).to_pylist()
        else:
            with file.open(encoding="utf-8") as lines:
                yield from map(json.loads, lines)
