"""`Largest`: the limit on the active dimensions of sparse vectors."""

from dataclasses import dataclass

import jax
import jax.numpy as jnp


@dataclass(frozen=True)
class Largest:
    """Keep the `count` features of a vector that are greatest in size; the rest become zero."""

    count: int

    def __call__(self, params, x, context):
        """`[..., F] -> [..., F]`."""
        places = jax.lax.top_k(jnp.abs(x), min(self.count, x.shape[-1]))[1]
        kept = jnp.take_along_axis(x, places, axis=-1)
        return jnp.put_along_axis(jnp.zeros_like(x), places, kept, axis=-1, inplace=False)
