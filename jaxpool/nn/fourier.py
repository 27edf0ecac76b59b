"""The Fourier transform of a text in place of attention (FNet, arXiv 2105.03824)."""

import math

import jax
import jax.numpy as jnp

from jaxpool.nn.arch import Arch
from jaxpool.nn.segments import segment_sums, take


def mix(params: dict, x: jax.Array, batch, arch: Arch, chosen, kept) -> jax.Array:
    """The real part of the transform over the tokens of each text and over features.

    Each text's is of its own length, as if it were alone. Both are products with cosines and
    sines, zero between texts: an FFT would have XLA gather all rows of a batch on every device.
    Over features f and D - f the first are equal and the others opposite, so half are computed.
    """
    half = arch.dim // 2 + 1
    cos, sin = _waves(jnp.arange(arch.dim)[:, None] * jnp.arange(half), arch.dim)
    lengths = segment_sums(batch, jnp.ones_like(batch.tokens))[:, None]
    turns = take(batch.positions, kept)[..., None] * batch.positions[:, None]
    same = take(batch.segments, kept)[..., None] == batch.segments[:, None]
    over = (jnp.where(same, wave, 0.0) for wave in _waves(turns, lengths))
    features = x.astype(jnp.float32)
    even, odd = (a @ (features @ b) for a, b in zip(over, (cos, sin), strict=True))
    mirrored = (even + odd)[..., arch.dim - half : 0 : -1]
    return jnp.concatenate([even - odd, mirrored], axis=-1).astype(x.dtype)


def _waves(turns: jax.Array, period: jax.Array | int) -> tuple[jax.Array, jax.Array]:
    """Cosines and sines of `turns / period`; whole turns are taken off as integers, exactly."""
    angles = 2 * math.pi * (turns % period).astype(jnp.float32)
    angles = angles / jnp.asarray(period, jnp.float32)
    return jnp.cos(angles), jnp.sin(angles)
