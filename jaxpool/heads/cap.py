"""`Cap`: logits that cannot grow without bound."""

from dataclasses import dataclass

import jax.numpy as jnp


@dataclass(frozen=True)
class Cap:
    """limit * tanh(x / limit): a soft limit on the size of logits (Gemma 2, arXiv 2408.00118)."""

    limit: float

    def __call__(self, params, x, context):
        """`[..., C] -> [..., C]`."""
        return self.limit * jnp.tanh(x / self.limit)
