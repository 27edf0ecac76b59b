"""The Fourier transform of a text in place of attention (FNet, arXiv 2105.03824)."""

import math

import jax
import jax.numpy as jnp

from jaxpool.nn.arch import Arch
from jaxpool.nn.segments import segment_sums, take


def mix(params: dict, x: jax.Array, batch, arch: Arch, chosen, kept) -> jax.Array:
    """The real part of the transform over the tokens of each text and over features.

    Each text's is of its own length, as if it were alone: over tokens it is a product with the
    cosines and sines of `tokens x tokens`, zero between texts.
    """
    spectrum = jnp.fft.fft(x.astype(jnp.float32), axis=-1)
    lengths = segment_sums(batch, jnp.ones_like(batch.tokens))
    mine = take(batch.positions, kept)
    same = take(batch.segments, kept)[..., None] == batch.segments[:, None]
    # Whole turns are taken off as integers, which lose no digits.
    turns = mine[..., None] * batch.positions[:, None] % lengths[:, None]
    angles = 2 * math.pi * turns.astype(jnp.float32) / lengths[:, None].astype(jnp.float32)
    cos, sin = (jnp.where(same, wave(angles), 0.0) for wave in (jnp.cos, jnp.sin))
    parts = jnp.concatenate([spectrum.real, spectrum.imag], axis=1)
    return (jnp.concatenate([cos, sin], axis=-1) @ parts).astype(x.dtype)
