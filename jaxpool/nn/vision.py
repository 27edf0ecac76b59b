"""What a vision tower has in place of token embeddings: patches of pixels, and where they lie.

Its layers are those of every other architecture.
"""

import math

import jax
import jax.numpy as jnp

from jaxpool.nn.arch import Arch, Patches
from jaxpool.nn.layers import arch_norm

MIDDLE = 128  # of the values of a pixel; less this, bfloat16 holds each of them exactly


def embed(params: dict, batch, arch: Arch, facts: Patches) -> jax.Array:
    """Hidden states `[B, T, D]` of the patches of a batch, with their positions, normalized."""
    x = _patches(params["patch"], batch.pixels, facts).astype(arch.dtype)
    if facts.class_token:
        first = batch.positions[..., None] == 0
        x = jnp.where(first, params["class"]["embedding"].astype(x.dtype), x)
    if arch.positions:
        table = params["position"]["embedding"].astype(jnp.float32)
        if facts.stretched:
            places = (_cornered if facts.corners else _stretched)(table, batch.grid)
        else:
            places = jnp.take(table, batch.positions, axis=0, mode="clip")
        x = x + places.astype(x.dtype)
    return arch_norm(params["norm"], x, arch) if arch.embed_norm else x


def _patches(params: dict, pixels: jax.Array, facts: Patches) -> jax.Array:
    """The product of patches `[B, T, h w c]` and the kernel `[h, w, c, D]`, float32 `[B, T, D]`.

    Pixels stay what they are: the kernel and the bias take in their scale, mean and deviation.
    """
    kernel = params["kernel"].astype(jnp.float32)
    if facts.frames > 1:  # a picture is the same in every frame
        kernel = jnp.sum(kernel, axis=0)
    mean, std = (jnp.asarray(x, jnp.float32)[:, None] for x in (facts.mean, facts.std))
    level = jnp.sum(kernel * ((MIDDLE * facts.scale - mean) / std), axis=(0, 1, 2))
    folded = (kernel * (facts.scale / std)).reshape(facts.values, -1)
    folded = folded.astype(params["kernel"].dtype)
    values = (pixels.astype(jnp.int16) - jnp.int16(MIDDLE)).astype(folded.dtype)
    out = jnp.einsum("bti,id->btd", values, folded, preferred_element_type=jnp.float32) + level
    return out + params["bias"].astype(jnp.float32) if "bias" in params else out


def _stretched(table: jax.Array, grid: jax.Array) -> jax.Array:
    """The vectors of a square table `[n n, D]` stretched over the grid of each picture (NaFlex)."""
    side = math.isqrt(table.shape[0])
    row, col, rows, cols = jnp.moveaxis(grid, -1, 0)
    down, along = _taps(row, rows, side), _taps(col, cols, side)
    table = table.reshape(side, side, -1)
    exact = jax.lax.Precision.HIGHEST
    return jnp.einsum("bta,btc,acd->btd", down, along, table, precision=exact)


def _cornered(table: jax.Array, grid: jax.Array) -> jax.Array:
    """The vectors of a square table `[n n, D]` whose corners are those of each picture's grid.

    Bilinear: four entries each, gathered.
    """
    side = math.isqrt(table.shape[0])
    row, col, rows, cols = jnp.moveaxis(grid, -1, 0)
    total = jnp.zeros((), table.dtype)
    for y, down in _ends(row, rows, side):
        for x, along in _ends(col, cols, side):
            entry = jnp.take(table, y * side + x, axis=0, mode="clip")
            total = total + (down * along)[..., None] * entry
    return total


def _ends(place: jax.Array, size: jax.Array, side: int) -> list[tuple[jax.Array, jax.Array]]:
    """The two entries of `side` between which a place among `size` lies, and the weight of each."""
    step = (side - 1) / jnp.maximum(size - 1, 1).astype(jnp.float32)
    at = place.astype(jnp.float32) * step
    first = jnp.minimum(at.astype(jnp.int32), side - 1)
    part = at - first.astype(jnp.float32)
    return [(first, 1.0 - part), (jnp.minimum(first + 1, side - 1), part)]


def _taps(place: jax.Array, size: jax.Array, side: int) -> jax.Array:
    """How much of each of `side` entries a place among `size` takes: float32 `[B, T, side]`.

    Bilinear with antialiasing, as torch's `interpolate`: corners are not aligned.
    """
    step = side / jnp.maximum(size, 1).astype(jnp.float32)[..., None]
    centre = step * (place.astype(jnp.float32)[..., None] + 0.5)
    distance = jnp.abs(jnp.arange(side, dtype=jnp.float32) + 0.5 - centre)
    weights = jnp.maximum(0.0, 1.0 - distance / jnp.maximum(step, 1.0))
    return weights / jnp.maximum(jnp.sum(weights, axis=-1, keepdims=True), 1e-9)
