"""Dropout (Srivastava et al., JMLR 2014): of training alone, off where no key is given."""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp


class Dropout(NamedTuple):
    """Rates: of what enters and leaves branches of layers, and of the weights of attention."""

    hidden: float = 0.0
    attention: float = 0.0


OFF = Dropout()


def drop(x: jax.Array, rate: float, key: jax.Array | None) -> jax.Array:
    """`x` with a share `rate` of its elements zero and the rest scaled up; `x` without a key."""
    if key is None or rate == 0.0:
        return x
    kept = jax.random.bernoulli(key, 1.0 - rate, x.shape)
    return jnp.where(kept, x / (1.0 - rate), 0.0).astype(x.dtype)


def dropped(branch: Callable, rate: float, key: jax.Array | None) -> Callable:
    """A branch with dropout on what it gives."""
    if key is None or rate == 0.0:
        return branch
    return lambda x: drop(branch(x), rate, key)


def split(key: jax.Array | None, count: int):
    """`count` keys out of one, or as many `None`."""
    return (None,) * count if key is None else jax.random.split(key, count)
