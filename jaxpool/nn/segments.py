"""The tokens of a row: which a segment has, sums over each or around a token, chosen ones."""

from typing import Any

import jax
import jax.numpy as jnp

NEVER = -1e30  # finite: a query that may see no key gives the mean of all, not NaN


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


def neighbours(x: jax.Array, segments: jax.Array, taps: int) -> jax.Array:
    """What the tokens around each have, `[B, T, taps, ...]`: zero beyond the ends of its text."""
    back, length = taps // 2, x.shape[1]
    around = (0, 0), (back, taps - 1 - back)
    values = jnp.pad(x, (*around, *((0, 0),) * (x.ndim - 2)))
    owners = jnp.pad(segments, around, constant_values=-1)

    def at(tap: int) -> jax.Array:
        mine = owners[:, tap : tap + length] == segments
        return jnp.where(
            mine.reshape(*mine.shape, *(1,) * (x.ndim - 2)), values[:, tap : tap + length], 0
        )

    return jnp.stack([at(tap) for tap in range(taps)], axis=2)


def convolve(params: dict, x: jax.Array, segments: jax.Array, causal: bool) -> jax.Array:
    """Each feature's weighted sum over the tokens around, `[B, T, ...]`, summed in float32.

    The window of a token ends with it where `causal`, else it is the middle.
    """
    kernel = params["kernel"].astype(jnp.float32)
    taps, length, extra = len(kernel), x.shape[1], x.ndim - 2
    back = taps - 1 if causal else taps // 2
    around = (0, 0), (back, taps - 1 - back)
    values = jnp.pad(x.astype(jnp.float32), (*around, *((0, 0),) * extra))
    owners = jnp.pad(segments, around, constant_values=-1)
    total = jnp.zeros(x.shape, jnp.float32)
    for tap in range(taps):
        mine = owners[:, tap : tap + length] == segments
        mine = mine.reshape(*mine.shape, *(1,) * extra)
        total += jnp.where(mine, values[:, tap : tap + length], 0.0) * kernel[tap]
    if "bias" in params:
        total += params["bias"].astype(jnp.float32)
    return total.astype(x.dtype)
