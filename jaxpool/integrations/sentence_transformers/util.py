"""The functions of sentence-transformers' `util` that scripts call, on NumPy arrays."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from jaxpool.search import community_detection, mine_hard_negatives
from jaxpool.search import semantic_search as _search
from jaxpool.search import top_k as nearest

__all__ = [
    "community_detection",
    "cos_sim",
    "dot_score",
    "mine_hard_negatives",
    "normalize_embeddings",
    "pairwise_cos_sim",
    "pairwise_dot_score",
    "paraphrase_mining",
    "paraphrase_mining_embeddings",
    "semantic_search",
]


def normalize_embeddings(embeddings: Any) -> np.ndarray:
    """The vectors with length 1."""
    x = np.asarray(embeddings, np.float32)
    return x / np.maximum(np.linalg.norm(x, axis=-1, keepdims=True), 1e-12)


def cos_sim(a: Any, b: Any) -> np.ndarray:
    """Cosines of all pairs `[N, M]`."""
    return dot_score(normalize_embeddings(a), normalize_embeddings(b))


def dot_score(a: Any, b: Any) -> np.ndarray:
    """Dot products of all pairs `[N, M]`."""
    a, b = (np.atleast_2d(np.asarray(x, np.float32)) for x in (a, b))
    return a @ b.T


def pairwise_cos_sim(a: Any, b: Any) -> np.ndarray:
    """Cosines of the pairs `[N]`."""
    return pairwise_dot_score(normalize_embeddings(a), normalize_embeddings(b))


def pairwise_dot_score(a: Any, b: Any) -> np.ndarray:
    """Dot products of the pairs `[N]`."""
    return np.sum(np.asarray(a, np.float32) * np.asarray(b, np.float32), axis=-1)


SCORES: dict[Callable, str] = {cos_sim: "cosine", dot_score: "dot"}


def semantic_search(
    query_embeddings: Any,
    corpus_embeddings: Any,
    query_chunk_size: int = 1024,
    corpus_chunk_size: int = 131_072,
    top_k: int = 10,
    score_function: Callable = cos_sim,
) -> list[list[dict]]:
    """The best rows of a corpus for each query, as lists of corpus_id and score."""
    if score_function not in SCORES:
        raise ValueError("score_function must be util.cos_sim or util.dot_score")
    sizes = (query_chunk_size, corpus_chunk_size)
    return _search(query_embeddings, corpus_embeddings, *sizes, top_k, SCORES[score_function])


def paraphrase_mining(
    model: Any, sentences: Sequence[str], top_k: int = 100, max_pairs: int = 500_000, **options: Any
) -> list[list]:
    """The pairs of sentences that are most alike, as `[cosine, i, j]`, the highest first.

    Of each sentence's top_k nearest ones, at most max_pairs in all; options without effect here
    are those of batches and progress.
    """
    return paraphrase_mining_embeddings(model.encode(list(sentences)), top_k, max_pairs)


def paraphrase_mining_embeddings(
    embeddings: Any, top_k: int = 100, max_pairs: int = 500_000
) -> list[list]:
    """`paraphrase_mining` of vectors `[N, F]`."""
    scores, rows = nearest(embeddings, embeddings, top_k + 1)
    own = np.broadcast_to(np.arange(len(rows))[:, None], rows.shape)
    pairs = np.stack([np.minimum(own, rows), np.maximum(own, rows)], axis=-1)[own != rows]
    pairs, first = np.unique(pairs, axis=0, return_index=True)
    found = scores[own != rows][first]
    order = np.argsort(-found, kind="stable")[:max_pairs]
    return [[float(found[i]), *pairs[i].tolist()] for i in order]
