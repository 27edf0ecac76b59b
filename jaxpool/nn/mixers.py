"""What mixes the tokens of a text in layers that do not attend; it starts anew at each segment."""

import jax
import jax.numpy as jnp

from jaxpool.nn import convolution, delta, fourier, mamba, relative
from jaxpool.nn.arch import Arch
from jaxpool.nn.low_rank import Mamba
from jaxpool.nn.records import DeltaNet, Fourier, Relative, ShortConvolution

MIXERS = {
    DeltaNet: delta.mix,
    Fourier: fourier.mix,
    Mamba: mamba.mix,
    Relative: relative.mix,
    ShortConvolution: convolution.mix,
}


def mixer(params: dict, x: jax.Array, batch, arch: Arch, chosen, kept) -> jax.Array:
    """`[B, T, D] -> [B, T, D]`, or `[B, R, D]` of the tokens `kept`, by the kind of `arch.mixer`.

    chosen: see `layers.chosen_adapters`. What no token sees (query expansion) is zero here.
    """
    if batch.context is not None:
        x = jnp.where(batch.context[..., None] < 0, 0, x)
    return MIXERS[type(arch.mixer)](params, x, batch, arch, chosen, kept)
