"""A thin flax.linen adapter: a pretrained encoder inside any Flax model."""

import flax.linen as nn
import jax

from jaxpool.engine.batch import Batch
from jaxpool.nn.arch import Arch
from jaxpool.nn.params import abstract, init
from jaxpool.nn.transformer import forward


class Encoder(nn.Module):
    """`forward` as a module: `Encoder(arch)(batch) -> [B, T, D]`.

    `init` gives random weights; pass `pretrained(model)` as variables for a checkpoint's. The
    variables are the parameter tree itself, under "params".
    """

    arch: Arch

    @nn.compact
    def __call__(self, batch: Batch) -> jax.Array:
        """Hidden states of a batch."""
        tree = {
            name: self.param(name, init, leaves) for name, leaves in abstract(self.arch).items()
        }
        return forward(tree, batch, self.arch)


def pretrained(model) -> dict:
    """The variables of `Encoder(model.arch)` with the weights of a loaded model."""
    return {"params": {name: tree for name, tree in model.params.items() if name != "heads"}}
