"""From the results of queries and documents to one score a pair: 1:N or N:N."""

from collections.abc import Callable, Sequence

import numpy as np

from jaxpool import similarity

MIXED = "colbert+sparse+dense"


def repeated(queries: Sequence, documents: Sequence) -> Sequence:
    """The query of each document."""
    return list(queries) * len(documents) if len(queries) == 1 else queries


def cosines(queries: Sequence[np.ndarray], documents: Sequence[np.ndarray]) -> np.ndarray:
    """The cosine of two vectors."""
    return similarity.cosine(np.stack(queries), np.stack(documents))


def products(queries: Sequence[np.ndarray], documents: Sequence[np.ndarray]) -> np.ndarray:
    """The dot product of two sparse vectors."""
    pairs = zip(repeated(queries, documents), documents, strict=True)
    return np.array([query @ document for query, document in pairs], np.float32)


def maxsims(
    run: Callable,
    queries: Sequence[np.ndarray],
    documents: Sequence[np.ndarray],
    mean: bool = False,
) -> np.ndarray:
    """MaxSim of two matrices of token vectors; `mean` divides it by the query's tokens.

    `run(function, *arrays)` runs its programs: `Executor.apply`.
    """
    queries = repeated(queries, documents)
    scores = similarity.maxsim_tiled(run, queries, documents)
    return scores / np.array([len(query) for query in queries], np.float32) if mean else scores


def mixtures(
    run: Callable, queries: Sequence[tuple], documents: Sequence[tuple], weights: Sequence[float]
) -> dict[str, np.ndarray]:
    """The scores of dense, sparse and token vectors, and their weighted means, by name.

    The names are those of FlagEmbedding's `compute_score`. Source: Chen et al., arXiv 2402.03216.
    """
    (q_dense, q_sparse, q_tokens), (d_dense, d_sparse, d_tokens) = (
        list(zip(*side, strict=True)) for side in (queries, documents)
    )
    dense, sparse = cosines(q_dense, d_dense), products(q_sparse, d_sparse)
    late = maxsims(run, q_tokens, d_tokens, mean=True)
    return {
        "colbert": late,
        "sparse": sparse,
        "dense": dense,
        "sparse+dense": _mean((dense, sparse), weights[:2]),
        MIXED: _mean((dense, sparse, late), weights),
    }


def _mean(scores: Sequence[np.ndarray], weights: Sequence[float]) -> np.ndarray:
    total = sum(weight * score for weight, score in zip(weights, scores, strict=True))
    return total / (sum(weights) or 1)
