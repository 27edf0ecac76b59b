"""Scores of pairs from the results of queries and documents, 1:N or N:N."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from jaxpool.heads import similarity

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


def maxsims(queries: Sequence, documents: Sequence, mean: bool = False) -> np.ndarray:
    """The scores `[1]` that documents have with their queries; `mean` divides by the tokens."""
    scores = np.concatenate(documents)
    sizes = [len(query) for query in repeated(queries, documents)]
    return scores / np.array(sizes, np.float32) if mean else scores


def matched(queries: Sequence, documents: Sequence) -> list[np.ndarray]:
    """The MaxSim `[1]` of each document's token vectors with its query's, on the host."""
    pairs = zip(repeated(queries, documents), documents, strict=True)
    return [(query @ document.T).max(axis=1).sum(keepdims=True) for query, document in pairs]


def added(parts: Sequence) -> Any:
    """A document's score with a long query: the sum of its scores with the query's pieces."""
    if isinstance(parts[0], tuple):
        return (*parts[0][:-1], sum(part[-1] for part in parts))
    return sum(parts)


def mixtures(
    queries: Sequence[tuple], documents: Sequence[tuple], weights: Sequence[float]
) -> dict[str, np.ndarray]:
    """The scores of dense, sparse and token vectors, and their weighted means, by name.

    Of documents' token vectors there are the scores with the queries' (see `maxsims`). The names
    are those of FlagEmbedding's `compute_score`. Source: Chen et al., arXiv 2402.03216.
    """
    (q_dense, q_sparse, q_tokens), (d_dense, d_sparse, d_late) = (
        list(zip(*side, strict=True)) for side in (queries, documents)
    )
    dense, sparse = cosines(q_dense, d_dense), products(q_sparse, d_sparse)
    late = maxsims(q_tokens, d_late, mean=True)
    return {
        "colbert": late,
        "sparse": sparse,
        "dense": dense,
        "sparse+dense": _mean((dense, sparse), weights[:2]),
        MIXED: _mean((dense, sparse, late), weights),
    }


def _mean(scores: Sequence[np.ndarray], weights: Sequence[float]) -> np.ndarray:
    weighed = [weight * score for weight, score in zip(weights, scores, strict=True)]
    return np.sum(weighed, axis=0) / (sum(weights) or 1)
