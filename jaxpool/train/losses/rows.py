"""What losses share: means over the rows that are there, and similarities with clean gradients."""

import jax
import jax.numpy as jnp

from jaxpool.heads.steps import unit

NEVER = -1e30  # finite, so that the gradient of what is left out is zero and not NaN


def as_float32(*arrays: jax.Array) -> tuple[jax.Array, ...]:
    """The arrays in float32."""
    return tuple(jnp.asarray(array).astype(jnp.float32) for array in arrays)


def mean(values: jax.Array, mask: jax.Array | None = None) -> jax.Array:
    """The mean over the rows (axis 0) that are there, and over all other axes."""
    if mask is None:
        return jnp.mean(values)
    there = jnp.broadcast_to(mask.reshape(-1, *(1,) * (values.ndim - 1)), values.shape)
    total = jnp.sum(jnp.where(there, values, 0.0))
    return total / jnp.maximum(jnp.sum(there, dtype=jnp.float32), 1.0)


def length(x: jax.Array) -> jax.Array:
    """Euclidean lengths `[..., D] -> [...]`, with the gradient zero and not NaN at zero."""
    return _root(jnp.sum(jnp.square(x), axis=-1))


def cosine(a: jax.Array, b: jax.Array) -> jax.Array:
    """The cosine of each row with the same row: `[..., D]` twice -> `[...]`."""
    return jnp.sum(unit(a) * unit(b), axis=-1)


def product(a: jax.Array, b: jax.Array) -> jax.Array:
    """Every dot product, exact in float32: `[B, D]`, `[N, D]` -> `[B, N]`."""
    return jnp.einsum("bd,nd->bn", a, b, precision=jax.lax.Precision.HIGHEST)


def _root(squares: jax.Array) -> jax.Array:
    positive = squares > 0
    return jnp.where(positive, jnp.sqrt(jnp.where(positive, squares, 1.0)), 0.0)
