"""Which keys a token may see: those of its segment, its past, its window."""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from jaxpool.nn.arch import Arch


class Places(NamedTuple):
    """Where some tokens lie: segments, positions and contexts (see `Batch`), `[B, T]` each."""

    segments: jax.Array
    positions: jax.Array
    context: jax.Array | None = None

    def map(self, function) -> "Places":
        """The same function of each array."""
        context = None if self.context is None else function(self.context)
        return Places(function(self.segments), function(self.positions), context)

    def at(self, start, size: int) -> "Places":
        """`size` tokens from `start` on."""
        return self.map(lambda x: jax.lax.dynamic_slice_in_dim(x, start, size, axis=1))


def visible(queries: Places, keys: Places, arch: Arch, reach: int) -> jax.Array:
    """Which keys a query sees, bool `[B, T, S]`: its segment and context, its past, its window."""
    seen = queries.segments[:, :, None] == keys.segments[:, None, :]
    if queries.context is not None and keys.context is not None:
        context = queries.context[:, :, None]
        seen |= (context > 0) & (context == keys.segments[:, None, :])
        seen &= keys.context[:, None, :] >= 0
    ahead = keys.positions[:, None, :] - queries.positions[:, :, None]
    if arch.causal:
        seen &= ahead <= 0
    if reach:
        near = (ahead <= reach) & (ahead >= arch.lean - reach)
        seen &= near | (keys.positions == 0)[:, None] if arch.leading else near
    return seen


def squares(batch, side: int) -> jax.Array:
    """The number of each patch's square of `side` x `side`, its picture's own: int32 `[B, P]`."""
    row, col, _, cols = jnp.moveaxis(batch.grid, -1, 0)
    before = jnp.pad(batch.segments, ((0, 0), (1, 0)))[:, :-1]
    index = jnp.arange(batch.segments.shape[1], dtype=jnp.int32)
    # Pictures follow one another, and have no more squares than patches.
    first = jax.lax.cummax(jnp.where(batch.segments != before, index, 0), axis=1)
    number = 1 + first + row // side * -(-cols // side) + col // side
    return jnp.where(batch.segments > 0, number, 0)
