"""Exact nearest neighbours on the devices of a process, of corpora larger than its memory."""

from collections import deque
from functools import partial
from typing import Any, NamedTuple

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from jaxpool.engine.planner import IN_FLIGHT
from jaxpool.search import late_interaction, program, screen
from jaxpool.search.sources import token_vectors, vectors

SCORES = ("cosine", "dot", "hamming", "maxsim")
QUERIES, BLOCK = 1024, 131_072  # rows of a side on the device at once


_prepared = jax.jit(program.prepared, static_argnums=1)


class Hits(NamedTuple):
    """Scores and rows of the corpus for each query, `[Q, k]`, the best first.

    Where the corpus has fewer than k rows, there are as many columns as it has. Of hamming, a score
    is minus the bits that differ.
    """

    scores: np.ndarray
    indices: np.ndarray


def top_k(
    queries: Any,
    corpus: Any,
    k: int = 10,
    *,
    score: str = "cosine",
    query_chunk_size: int = QUERIES,
    corpus_chunk_size: int = BLOCK,
    mesh: Mesh | None = None,
) -> Hits:
    """The k rows of a corpus that are nearest to each query, exactly; of equal ones the first.

    queries, corpus: arrays `[N, F]` of any real dtype (uint8 bits, eight a byte, for hamming),
    pyarrow columns, or the .npy or .arrow files of a job, which are memory-mapped: one or a list.
    For maxsim, sequences of token vectors `[T_i, F]`, an array `[N, T, F]`, a column of lists or
    a file of such. score: cosine, dot, hamming or maxsim. A mesh with an axis "data" splits the
    corpus over its devices. The corpus is read a block at a time (of corpus_chunk_size vectors);
    where it is large, k small and the device one, a screening in bfloat16 comes first (see
    `jaxpool.search.screen`).
    """
    if score not in SCORES:
        raise ValueError(f"score must be one of {SCORES}, got {score!r}")
    if k < 1:
        raise ValueError(f"k must be at least 1, got {k}")
    if score == "maxsim":
        sides = (token_vectors(queries), token_vectors(corpus))
        found = late_interaction.top_k(*sides, k, query_chunk_size, corpus_chunk_size, mesh)
        return Hits(found.scores, found.rows.astype(np.int64))
    asked, rows = vectors(queries)[:], vectors(corpus)
    _check(asked, rows, score)
    k = min(k, len(rows))
    if not len(asked) or not k:
        return Hits(np.empty((len(asked), k), np.float32), np.empty((len(asked), k), np.int64))
    sizes = (query_chunk_size, corpus_chunk_size)
    if mesh is None and score != "hamming" and len(rows) >= screen.LEAST and k <= screen.MOST:
        return _screened(asked, rows, k, score, *sizes)
    return _nearest(asked, rows, k, score, *sizes, mesh)


def _screened(
    asked: np.ndarray, rows: np.ndarray, k: int, score: str, chunk: int, most: int
) -> Hits:
    """By two passes (see `screen`); a third for queries that those leave open."""
    parts = [_prepared(asked[i : i + chunk], score) for i in range(0, len(asked), chunk)]
    many = -(-(3 * k + screen.STEP) // screen.STEP) * screen.STEP
    groups = screen.screen(parts, rows, many, score, most)
    found = [
        screen.settle(part, best, rows, k, score) for part, best in zip(parts, groups, strict=True)
    ]
    scores, indices, sure = (np.concatenate(each) for each in zip(*found, strict=True))
    if not sure.all():
        scores[~sure], indices[~sure] = _nearest(asked[~sure], rows, k, score, chunk, most, None)
    return Hits(scores, indices)


def _nearest(
    asked: np.ndarray, rows: np.ndarray, k: int, score: str, chunk: int, most: int, mesh: Any
) -> Hits:
    shards = 1 if mesh is None else mesh.shape[program.AXIS]
    parts = [_prepared(asked[i : i + chunk], score) for i in range(0, len(asked), chunk)]
    most = min(len(rows), most)
    best = [program.start(len(part), k) for part in parts]
    tile = program.tile_of(-(-most // shards), jax.default_backend())
    size = -(-most // (tile * shards)) * tile * shards
    search = partial(program.search_block, tile=tile, score=score, mesh=mesh)
    waiting: deque = deque()
    for first in range(0, len(rows), size):
        block = _block(rows[first : first + size], size, mesh)
        count = min(size, len(rows) - first)
        pairs = zip(best, parts, strict=True)
        best = [search(b, part, block, first, count) for b, part in pairs]
        waiting.append(block)
        if len(waiting) > IN_FLIGHT:  # or blocks would be read ahead of the device without end
            waiting.popleft()
            jax.block_until_ready(best)
    found = [np.concatenate([np.asarray(b[i]) for b in best]) for i in (0, 1)]
    return Hits(found[0], found[1].astype(np.int64))


def _check(queries: np.ndarray, rows: np.ndarray, score: str) -> None:
    if queries.shape[1] != rows.shape[1]:
        raise ValueError(f"queries have {queries.shape[1]} features and the corpus {rows.shape[1]}")
    bits = queries.dtype == rows.dtype == np.uint8
    if score == "hamming" and not bits:
        kinds = f"{queries.dtype} and {rows.dtype}"
        raise ValueError(f"hamming compares bits (uint8, precision ubinary), got {kinds}")
    if len(rows) >= 2**31:
        raise ValueError(f"a corpus of {len(rows)} rows: search parts of it below 2**31 each")


def _block(rows: np.ndarray, size: int, mesh: Mesh | None) -> jax.Array:
    """Some rows on the device, filled up to a whole block."""
    rows = program.whole(rows, size)
    if mesh is None:
        return jax.device_put(rows)
    return jax.device_put(rows, NamedSharding(mesh, PartitionSpec(program.AXIS)))


@jax.jit
def _dots(queries: jax.Array, candidates: jax.Array) -> jax.Array:
    highest = jax.lax.Precision.HIGHEST
    return jax.numpy.einsum("qf,qcf->qc", queries, candidates, precision=highest)


def rescore(hits: Hits, queries: Any, corpus: Any, k: int = 10, *, score: str = "cosine") -> Hits:
    """The best k of some hits by better vectors: those of a binary search by int8 or float ones.

    corpus: as in `top_k`; of a memory-mapped file only the rows of the hits are read. Search for a
    few times k before it.
    """
    asked, rows, found = vectors(queries)[:], vectors(corpus), []
    for begin in range(0, len(asked), QUERIES):
        chosen = hits.indices[begin : begin + QUERIES]
        candidates = np.asarray(rows[chosen], np.float32)  # [Q, C, F]
        scores = np.array(_dots(_prepared(asked[begin : begin + QUERIES], score), candidates))
        if score == "cosine":
            scores /= np.maximum(np.linalg.norm(candidates, axis=-1), program.EPSILON)
        order = np.argsort(-scores, axis=1, kind="stable")[:, :k]
        found.append([np.take_along_axis(array, order, axis=1) for array in (scores, chosen)])
    return Hits(*(np.concatenate(parts) for parts in zip(*found, strict=True)))


nearest = top_k  # by another name where `top_k` is an argument


def semantic_search(
    query_embeddings: Any,
    corpus_embeddings: Any,
    query_chunk_size: int = QUERIES,
    corpus_chunk_size: int = BLOCK,
    top_k: int = 10,
    score_function: str = "cosine",
) -> list[list[dict]]:
    """`top_k` in the shape of sentence-transformers: a list of corpus_id and score a query."""
    search = nearest
    sizes: dict = {"query_chunk_size": query_chunk_size, "corpus_chunk_size": corpus_chunk_size}
    single = np.ndim(query_embeddings) == 1
    queries = np.asarray(query_embeddings)[None] if single else query_embeddings
    hits = search(queries, corpus_embeddings, top_k, score=score_function, **sizes)
    return [
        [{"corpus_id": int(i), "score": float(s)} for s, i in zip(*row, strict=True)]
        for row in zip(*hits, strict=True)
    ]
