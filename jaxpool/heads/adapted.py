"""What the adapters that requests choose change in the linear layers of heads.

An adapter of a classifier brings its trained head (PEFT's `modules_to_save`): here it is the
difference from the model's own, stacked in `params["heads"][name]["adapters"]` (`jaxpool.loras`).
"""

import jax
import jax.numpy as jnp

from jaxpool.nn.leaf import Leaf

PARTS = ("kernel", "bias")


def stacks(step, count: int) -> dict[str, Leaf]:
    """The parameters of a `Dense` step's slots for so many adapters."""
    own = step.leaves()
    leaves = {part: own[part] for part in PARTS if part in own}
    return {n: Leaf(f"q {leaf.axes}", (count, *leaf.shape)) for n, leaf in leaves.items()}


def change(params: dict, x: jax.Array, context) -> jax.Array:
    """`[B, T, I] -> [B, T, O]`: what the adapter of each vector's request adds to the output."""
    each = jnp.einsum("bti,qio->btqo", x, params["kernel"])
    if "bias" in params:
        each = each + params["bias"]
    return jnp.einsum("btqo,btq->bto", each, context.adapters(each.shape[2]))
