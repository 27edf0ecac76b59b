"""MaxSim, the score of late interaction (ColBERT, arXiv 2004.12832), as one program a shape.

For each query token the greatest dot product with any token of the document, summed over the
query's tokens. Pure, jit-able and differentiable on arrays; ragged lists are padded first.
"""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

EMPTY = -1e9  # the score of a document without tokens: below every real one, and still a number
AT_ONCE = 1 << 24  # similarities (query tokens x document tokens) held at once

Vectors = Any  # `[N, T, D]`, one `[T, D]`, or a sequence of `[T_i, D]`


def maxsim(
    queries: Vectors, documents: Vectors, query_mask: Any = None, document_mask: Any = None
) -> jax.Array:
    """The scores of every query with every document: float32 `[Q, N]`.

    Each side is `[N, T, D]` with a bool mask `[N, T]` of the tokens that count (all, if not
    given), a single `[T, D]`, or a sequence of `[T_i, D]`.
    """
    (q, q_mask), (d, d_mask) = _stack(queries, query_mask), _stack(documents, document_mask)
    step = max(1, AT_ONCE // max(1, q.shape[0] * q.shape[1] * d.shape[1]))
    parts = [
        _every(q, d[i : i + step], q_mask, d_mask[i : i + step]) for i in range(0, len(d), step)
    ]
    return jnp.concatenate(parts, axis=1)


def maxsim_pairwise(
    queries: Vectors, documents: Vectors, query_mask: Any = None, document_mask: Any = None
) -> jax.Array:
    """The score of query i with document i: float32 `[N]`; arguments as those of `maxsim`."""
    (q, q_mask), (d, d_mask) = _stack(queries, query_mask), _stack(documents, document_mask)
    if len(q) != len(d):
        raise ValueError(f"maxsim_pairwise: {len(q)} queries but {len(d)} documents")
    step = max(1, AT_ONCE // max(1, q.shape[1] * d.shape[1]))
    slices = [slice(i, i + step) for i in range(0, len(d), step)]
    return jnp.concatenate([_pairs(q[s], d[s], q_mask[s], d_mask[s]) for s in slices])


def _score(q, d, q_mask, d_mask):
    similar = jnp.einsum(
        "td,sd->ts", q, d, precision=jax.lax.Precision.HIGHEST, preferred_element_type=jnp.float32
    )
    best = jnp.max(similar, axis=1, where=d_mask[None, :], initial=jnp.finfo(jnp.float32).min)
    score = jnp.sum(best, where=q_mask)
    return jnp.where(jnp.any(d_mask), score, EMPTY)


_pairs = jax.jit(jax.vmap(_score))
_every = jax.jit(
    jax.vmap(jax.vmap(_score, in_axes=(None, 0, None, 0)), in_axes=(0, None, 0, None))
)


def _stack(vectors: Vectors, mask: Any) -> tuple[jax.Array, jax.Array]:
    """`[N, T, D]` and its mask `[N, T]`; ragged sides are padded to a power of two of tokens."""
    if isinstance(vectors, Sequence):
        if mask is not None:
            raise ValueError("a mask goes with an array [N, T, D], not with a list of [T_i, D]")
        return _pad([np.asarray(v) for v in vectors])
    vectors = jnp.asarray(vectors)
    if vectors.ndim == 2:
        vectors, mask = vectors[None], None if mask is None else jnp.asarray(mask)[None]
    if vectors.ndim != 3:
        raise ValueError(f"token vectors must be [N, T, D] or [T, D], got {vectors.shape}")
    mask = jnp.ones(vectors.shape[:2], bool) if mask is None else jnp.asarray(mask, bool)
    return vectors, mask


def _pad(vectors: list[np.ndarray]) -> tuple[jax.Array, jax.Array]:
    if not vectors:
        raise ValueError("maxsim needs at least one query and one document")
    longest = max(1, *(len(v) for v in vectors))
    length = 1 << (longest - 1).bit_length()
    out = np.zeros((len(vectors), length, vectors[0].shape[-1]), vectors[0].dtype)
    for row, v in zip(out, vectors, strict=True):
        row[: len(v)] = v
    lengths = np.array([len(v) for v in vectors])
    return jnp.asarray(out), jnp.asarray(np.arange(length) < lengths[:, None])
