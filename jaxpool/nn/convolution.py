"""A gated convolution over a few neighbouring tokens."""

import jax

from jaxpool.nn.arch import Arch
from jaxpool.nn.primitives import dense
from jaxpool.nn.segments import convolve, take


def mix(params: dict, x: jax.Array, batch, arch: Arch, chosen, kept) -> jax.Array:
    """down(after * convolve(before * value)), all four of `x` (LFM2, arXiv 2511.23404)."""
    before, after, value = (
        dense(params[name], x, "btd,dp->btp", chosen) for name in ("before", "after", "value")
    )
    y = after * convolve(params["conv"], before * value, batch.segments, arch.causal)
    return dense(params["down"], take(y, kept), "btp,pd->btd", take(chosen, kept))
