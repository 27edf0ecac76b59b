"""Similarities of embeddings: cosine, and MaxSim of token vectors.

MaxSim (ColBERT, arXiv 2004.12832) is, for each query token, the greatest dot product with any
token of the document, summed over the query's tokens. On arrays it is pure, jit-able and
differentiable; ragged lists are first padded to powers of two, so that few shapes compile. `MaxSim`
is the same as a step of a head, computed inside the program of a batch.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

EMPTY = -1e9  # the score of a document without tokens: below every real one, and still a number
AT_ONCE = 1 << 24  # similarities (query tokens x document tokens) held at once

Vectors = Any  # `[N, T, D]`, one `[T, D]`, or a sequence of `[T_i, D]`


def cosine(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """The cosine of each row of `a` with the same row of `b`: `[N, D]` twice -> float32 `[N]`."""
    a, b = (np.asarray(x, np.float32) for x in (a, b))
    norms = np.linalg.norm(a, axis=-1) * np.linalg.norm(b, axis=-1)
    return np.sum(a * b, axis=-1) / np.maximum(norms, 1e-8)


@dataclass(frozen=True)
class _Side:
    """Token vectors `[N, T, D]`, the mask `[N, T]` of those that count, and the rows that do."""

    vectors: jax.Array
    mask: jax.Array
    count: int

    def __getitem__(self, rows):
        return self.vectors[rows], self.mask[rows]


def maxsim(
    queries: Vectors, documents: Vectors, query_mask: Any = None, document_mask: Any = None
) -> jax.Array:
    """The scores of every query with every document: float32 `[Q, N]`.

    Each side is `[N, T, D]` with a bool mask `[N, T]` of the tokens that count (all, if not
    given), a single `[T, D]`, or a sequence of `[T_i, D]`.
    """
    q, d = _side(queries, query_mask), _side(documents, document_mask)
    step = max(1, AT_ONCE // max(1, q.mask.size * d.mask.shape[1]))
    parts = [_every(q[:], d[i : i + step]) for i in range(0, len(d.mask), step)]
    return jnp.concatenate(parts, axis=1)[: q.count, : d.count]


def maxsim_pairwise(
    queries: Vectors, documents: Vectors, query_mask: Any = None, document_mask: Any = None
) -> jax.Array:
    """The score of query i with document i: float32 `[N]`; arguments as those of `maxsim`."""
    q, d = _side(queries, query_mask), _side(documents, document_mask)
    if q.count != d.count:
        raise ValueError(f"maxsim_pairwise: {q.count} queries but {d.count} documents")
    step = max(1, AT_ONCE // max(1, q.mask.shape[1] * d.mask.shape[1]))
    rows = min(len(q.mask), len(d.mask))  # a list is padded to more rows than an array of as many
    slices = [slice(i, min(i + step, rows)) for i in range(0, rows, step)]
    return jnp.concatenate([_pairs(q[s], d[s]) for s in slices])[: d.count]


@dataclass(frozen=True)
class MaxSim:
    """Token vectors to the score of each segment with its query (ColBERT, arXiv 2004.12832).

    For each token of the query the greatest dot product with any of the segment, summed.
    """

    def width(self, dim: int) -> int:
        """Features that come out."""
        return 1

    def __call__(self, params, x, context):
        """`[B, T, F] -> [B, R, 1]`; a segment of which no token counts has `EMPTY`."""
        queries = context.controls.queries
        rows, count = queries.asked.shape[:2]
        counted = context.members(count) & queries.counted[:, None, :]

        def add(slot, scores):
            similar = jnp.einsum(
                "btf,qf->btq", x, queries.vectors[slot], precision=jax.lax.Precision.HIGHEST
            )
            best = jnp.max(jnp.where(counted[..., None], similar[:, None], EMPTY), axis=2)
            score = jnp.sum(jnp.where(queries.real[slot], best, 0.0), axis=-1)
            return scores + jnp.where(queries.asked[:, :, slot], score, 0.0)

        scores = jax.lax.fori_loop(0, queries.used, add, jnp.zeros((rows, count), jnp.float32))
        return jnp.where(jnp.any(counted, axis=-1), scores, EMPTY)[..., None]


def _score(query, document):
    (q, q_mask), (d, d_mask) = query, document
    similar = jnp.einsum(
        "td,sd->ts", q, d, precision=jax.lax.Precision.HIGHEST, preferred_element_type=jnp.float32
    )
    best = jnp.max(similar, axis=1, where=d_mask[None, :], initial=jnp.finfo(jnp.float32).min)
    return jnp.where(jnp.any(d_mask), jnp.sum(best, where=q_mask), EMPTY)


def _score_each(queries, documents):
    return jax.vmap(_score)(queries, documents)


_pairs = jax.jit(_score_each)
_every = jax.jit(jax.vmap(jax.vmap(_score, in_axes=(None, 0)), in_axes=(0, None)))


def _side(vectors: Vectors, mask: Any) -> _Side:
    if isinstance(vectors, Sequence):
        if mask is not None:
            raise ValueError("a mask goes with an array [N, T, D], not with a list of [T_i, D]")
        return _padded([np.asarray(v) for v in vectors])
    vectors = jnp.asarray(vectors)
    if vectors.ndim == 2:
        vectors, mask = vectors[None], None if mask is None else jnp.asarray(mask)[None]
    if vectors.ndim != 3:
        raise ValueError(f"token vectors must be [N, T, D] or [T, D], got {vectors.shape}")
    mask = jnp.ones(vectors.shape[:2], bool) if mask is None else jnp.asarray(mask, bool)
    return _Side(vectors, mask, len(vectors))


def _padded(vectors: list[np.ndarray]) -> _Side:
    if not vectors:
        raise ValueError("maxsim needs at least one query and one document")
    rows, tokens = (
        1 << (max(1, n) - 1).bit_length() for n in (len(vectors), max(map(len, vectors)))
    )
    out, mask = _fill(vectors, rows, tokens)
    return _Side(jnp.asarray(out), jnp.asarray(mask), len(vectors))


def _fill(vectors: Sequence[np.ndarray], rows: int, tokens: int) -> tuple[np.ndarray, np.ndarray]:
    """Matrices `[T_i, D]` as one array `[rows, tokens, D]` and the mask of what they fill."""
    out = np.zeros((rows, tokens, vectors[0].shape[-1]), vectors[0].dtype)
    mask = np.zeros((rows, tokens), bool)
    for row, v in enumerate(vectors):
        out[row, : len(v)], mask[row, : len(v)] = v, True
    return out, mask
