"""The tokens of a row: which ones a segment has, and the values of chosen ones."""

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
