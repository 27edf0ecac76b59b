"""A linear layer whose kernel is stored in two parts."""

from dataclasses import dataclass

import jax
import jax.numpy as jnp

from jaxpool.nn import primitives
from jaxpool.nn.leaf import Leaf


@dataclass(frozen=True)
class PartedDense:
    """A linear layer with a kernel for the `first` features and one for the `rest`."""

    name: str
    first: int
    rest: int
    outputs: int

    def width(self, dim: int) -> int:
        """Features that come out."""
        return self.outputs

    def leaves(self):
        """The parameters of the step."""
        return {
            "kernel": Leaf("I O", (self.first, self.outputs)),
            "rest": Leaf("I O", (self.rest, self.outputs)),
            "bias": Leaf("O", (self.outputs,)),
        }

    def __call__(self, params, x, context):
        """`[..., I] -> [..., O]`."""
        params = jax.tree.map(lambda leaf: leaf.astype(jnp.float32), params)
        kernel = jnp.concatenate([params["kernel"], params["rest"]])
        return primitives.dense({"kernel": kernel, "bias": params["bias"]}, x, "bti,io->bto")
