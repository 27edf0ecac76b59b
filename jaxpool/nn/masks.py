"""Which keys a token may see: those of its segment, its past, its window."""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from jaxpool.nn.arch import Arch

NEVER = -1e30  # finite: a query that may see no key gives the mean of all, not NaN


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
        seen &= jnp.abs(ahead) <= reach
    return seen
