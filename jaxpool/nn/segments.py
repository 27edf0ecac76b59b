"""The tokens of a row: which a segment has, sums over each, and the values of chosen ones."""

from typing import Any

import jax
import jax.numpy as jnp


def members(segments: jax.Array, count: int) -> jax.Array:
    """Which tokens belong to each of `count` segments of a row: bool `[B, R, T]`."""
    return segments[:, None, :] == jnp.arange(1, count + 1, dtype=segments.dtype)[:, None]


def take(x: Any, kept: jax.Array | None) -> Any:
    """What the tokens `kept [B, R]` have of `x [B, T, ...]`: `[B, R, ...]`; of None, all of it."""
    if x is None or kept is None:
        return x
    index = kept.reshape(*kept.shape, *(1,) * (x.ndim - 2))
    return jnp.take_along_axis(x, index, axis=1, mode="clip")


def segment_sums(batch, values: jax.Array) -> jax.Array:
    """The sum of `values [B, T]` over each token's own segment, `[B, T]`."""
    b, t = batch.segments.shape
    row = (t + 1) * jnp.arange(b, dtype=jnp.int32)[:, None]
    slots = (batch.segments + row).reshape(-1)
    return jax.ops.segment_sum(values.reshape(-1), slots, b * (t + 1))[slots].reshape(b, t)
