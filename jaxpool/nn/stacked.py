"""Trees of stacked layers: their layers apart, and their weights as bits that loops slice."""

import jax
import jax.numpy as jnp
import numpy as np
from jax.tree_util import tree_map


def unstack(layers, depth: int) -> list:
    """The `depth` layers of a stacked tree, one tree each (debugging, and the unrolled twin)."""
    return [tree_map(lambda leaf: leaf[i], layers) for i in range(depth)]  # noqa: B023


def stack(layers: list[dict]) -> dict:
    """One tree with a leading layer axis: the inverse of `unstack`."""
    return tree_map(lambda *leaves: jnp.stack(leaves), *layers)


def as_bits(tree: dict) -> dict:
    """The same arrays with bfloat16 ones as views of their bits, uint16; not for tracing.

    XLA on CPU slices bfloat16 in float32: a loop over layers would first widen all of them, at
    every call. Integers pass as they are, and `from_bits` undoes this for one layer at a time.
    """

    def view(x: jax.Array) -> jax.Array:
        if x.dtype != jnp.bfloat16:
            return x
        bits = [
            jax.device_put(np.asarray(part.data).view(np.uint16), part.device, may_alias=True)
            for part in x.addressable_shards
        ]
        return jax.make_array_from_single_device_arrays(x.shape, x.sharding, bits)

    return tree_map(view, tree)


def from_bits(tree: dict) -> dict:
    """The inverse of `as_bits`, for tracing; other trees pass unchanged."""

    def view(x: jax.Array) -> jax.Array:
        return jax.lax.bitcast_convert_type(x, jnp.bfloat16) if x.dtype == jnp.uint16 else x

    return tree_map(view, tree)
