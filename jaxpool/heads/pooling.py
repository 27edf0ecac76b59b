"""Pooling: from token vectors `[B, T, D]` to one vector a segment `[B, R, D]`, in float32.

Every function takes hidden states, the membership mask `[B, R, T]` and positions `[B, T]`.
Segments without tokens give zeros (max: the lowest float).
"""

import jax
import jax.numpy as jnp


def _sum(hidden, weights):
    return jnp.einsum(
        "brt,btd->brd", weights, hidden.astype(jnp.float32), precision=jax.lax.Precision.HIGHEST
    )


def _count(mask):
    return jnp.maximum(jnp.sum(mask, axis=-1, keepdims=True, dtype=jnp.float32), 1.0)


def mean(hidden, mask, positions):
    """The mean of the tokens."""
    return _sum(hidden, mask.astype(jnp.float32)) / _count(mask)


def total(hidden, mask, positions):
    """The sum of the tokens."""
    return _sum(hidden, mask.astype(jnp.float32))


def mean_sqrt(hidden, mask, positions):
    """The sum of the tokens over the square root of their number."""
    return _sum(hidden, mask.astype(jnp.float32)) / jnp.sqrt(_count(mask))


def weighted_mean(hidden, mask, positions):
    """The mean with weight i + 1 on token i (SGPT, arXiv 2202.08904)."""
    weights = jnp.where(mask, (positions[:, None, :] + 1).astype(jnp.float32), 0.0)
    return _sum(hidden, weights) / jnp.maximum(jnp.sum(weights, axis=-1, keepdims=True), 1.0)


def first_of(mask):
    """Where the first token of each segment lies in its row: int32 `[B, R]`."""
    return jnp.argmax(mask, axis=-1)


def last_of(mask):
    """Where the last token of each segment lies in its row: int32 `[B, R]`."""
    return mask.shape[-1] - 1 - jnp.argmax(mask[..., ::-1], axis=-1)


def _at(hidden, places):
    picked = jnp.take_along_axis(hidden, places[..., None], axis=1, mode="clip")
    return picked.astype(jnp.float32)


def cls(hidden, mask, positions):
    """The first token."""
    return _at(hidden, first_of(mask))


def last(hidden, mask, positions):
    """The last token."""
    return _at(hidden, last_of(mask))


def maximum(hidden, mask, positions):
    """The greatest value of each feature over the tokens."""
    b, t, d = hidden.shape
    count = mask.shape[1]
    segment = jnp.where(jnp.any(mask, axis=1), jnp.argmax(mask, axis=1), count)
    flat = (segment + (count + 1) * jnp.arange(b)[:, None]).reshape(-1)
    rows = jax.ops.segment_max(hidden.astype(jnp.float32).reshape(b * t, d), flat, b * (count + 1))
    return jnp.maximum(rows, jnp.finfo(jnp.float32).min).reshape(b, count + 1, d)[:, :count]


POOLS = {
    "cls": cls,
    "max": maximum,
    "mean": mean,
    "mean_sqrt_len_tokens": mean_sqrt,
    "weightedmean": weighted_mean,
    "lasttoken": last,
    "sum": total,
}
PICKS = {"cls": first_of, "lasttoken": last_of}  # the pools that take one token as it is
