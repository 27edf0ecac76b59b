"""What a vision tower has in place of token embeddings: patches of pixels, and where they lie.

Its layers are those of every other architecture.
"""

import math
from functools import partial

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
    if facts.registers:
        table = params["register"]["embedding"].astype(x.dtype)
        own = jnp.take(table, batch.positions - 1, axis=0, mode="clip")
        x = jnp.where(_registers(batch, facts), own, x)
    if arch.positions:
        table = params["position"]["embedding"].astype(jnp.float32)
        x = x + _places(table, batch, facts).astype(x.dtype)
    return arch_norm(params["norm"], x, arch) if arch.embed_norm else x


def apart(patches, arch: Arch):
    """A batch of patches with a picture a row, where all are of one size: attention is of each.

    The pictures of a row follow one another from its start; a row may be too short for any.
    """
    fixed = arch.patches is not None and not arch.patches.placed
    size = arch.positions - arch.before_patches if fixed and arch.positions else 0
    count = patches.segments.shape[1] // size if size else 0
    if not count:
        return patches
    return jax.tree.map(lambda x: x[:, : count * size].reshape(-1, size, *x.shape[2:]), patches)


def begun(patches, arch: Arch):
    """A batch of patches, a picture a row, with what precedes them: a class token."""
    first = arch.before_patches
    if not first:
        return patches
    if arch.patches is None or arch.patches.stretched:
        raise ValueError("tokens before the patches of pictures among texts: wanted one size")
    widen = lambda x, mode: jnp.pad(  # noqa: E731
        x, ((0, 0), (first, 0), *((0, 0),) * (x.ndim - 2)), mode=mode
    )
    positions = widen(patches.positions + first, "constant")
    positions = positions.at[:, :first].set(jnp.arange(first, dtype=positions.dtype))
    return patches._replace(
        segments=widen(patches.segments, "edge"),
        positions=positions,
        pixels=widen(patches.pixels, "edge"),
        grid=widen(patches.grid, "edge"),
    )


def _places(table: jax.Array, batch, facts: Patches) -> jax.Array:
    """The positions of a batch's tokens: float32 `[B, T, D]`."""
    if facts.crossed:
        row, col = batch.grid[..., 0], batch.grid[..., 1]
        return jnp.take(table[0], col, axis=0, mode="clip") + jnp.take(
            table[1], row, axis=0, mode="clip"
        )
    if not facts.stretched:
        return jnp.take(table, batch.positions, axis=0, mode="clip")
    square = table[int(facts.class_token) :]
    if facts.corners:
        places = _cornered(square, batch.grid)
    else:
        places = _stretched(square, batch.grid, facts)
    if facts.registers:
        places = jnp.where(_registers(batch, facts), 0.0, places)
    if facts.class_token:
        places = jnp.where(batch.positions[..., None] == 0, table[0], places)
    return places


def _registers(batch, facts: Patches) -> jax.Array:
    """Which tokens are registers: bool `[B, T, 1]`."""
    return ((batch.positions >= 1) & (batch.positions <= facts.registers))[..., None]


def _patches(params: dict, pixels: jax.Array, facts: Patches) -> jax.Array:
    """The product of patches `[B, T, h w c]` and the kernel `[h, w, c, D]`, float32 `[B, T, D]`.

    Pixels stay what they are: the kernel and the bias take in their scale, mean and deviation.
    Floats that a caller gives are not rounded, and have gradients.
    """
    kernel = params["kernel"].astype(jnp.float32)
    if facts.frames > 1:  # a picture is the same in every frame
        kernel = jnp.sum(kernel, axis=0)
    mean, std = (jnp.asarray(x, jnp.float32)[:, None] for x in (facts.mean, facts.std))
    level = jnp.sum(kernel * ((MIDDLE * facts.scale - mean) / std), axis=(0, 1, 2))
    folded = (kernel * (facts.scale / std)).reshape(facts.values, -1)
    folded = folded.astype(params["kernel"].dtype)
    wide = jnp.int16 if pixels.dtype == jnp.uint8 else jnp.float32
    values = (pixels.astype(wide) - wide(MIDDLE)).astype(folded.dtype)
    out = jnp.einsum("bti,id->btd", values, folded, preferred_element_type=jnp.float32) + level
    return out + params["bias"].astype(jnp.float32) if "bias" in params else out


def _stretched(table: jax.Array, grid: jax.Array, facts: Patches) -> jax.Array:
    """The vectors of a square table `[n n, D]` stretched over the grid of each picture."""
    side = math.isqrt(table.shape[0])
    row, col, rows, cols = jnp.moveaxis(grid, -1, 0)
    taps = _sharp_taps if facts.cubic == "sharp" else partial(_taps, cubic=bool(facts.cubic))
    down, along = taps(row, rows, side), taps(col, cols, side)
    both = (down[..., :, None] * along[..., None, :]).reshape(*row.shape, -1)
    return jnp.einsum("bta,ad->btd", both, table, precision=jax.lax.Precision.HIGHEST)


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


def _taps(place: jax.Array, size: jax.Array, side: int, cubic: bool = False) -> jax.Array:
    """How much of each of `side` entries a place among `size` takes: float32 `[B, T, side]`.

    Bilinear, or `cubic`, with antialiasing, as torch's `interpolate`: corners are not aligned.
    """
    step = side / jnp.maximum(size, 1).astype(jnp.float32)[..., None]
    centre = step * (place.astype(jnp.float32)[..., None] + 0.5)
    distance = jnp.abs(jnp.arange(side, dtype=jnp.float32) + 0.5 - centre) / jnp.maximum(step, 1.0)
    weights = _cubic(distance, -0.5) if cubic else jnp.maximum(0.0, 1.0 - distance)
    return weights / jnp.maximum(jnp.sum(weights, axis=-1, keepdims=True), 1e-9)


def _sharp_taps(place: jax.Array, size: jax.Array, side: int) -> jax.Array:
    """As `_taps`, cubic and without antialiasing: what lies beyond an edge counts as the edge."""
    step = side / jnp.maximum(size, 1).astype(jnp.float32)[..., None]
    centre = step * (place.astype(jnp.float32)[..., None] + 0.5)
    distance = jnp.abs(jnp.arange(-2, side + 2, dtype=jnp.float32) + 0.5 - centre)
    weights = _cubic(distance, -0.75)
    within = weights[..., 2:-2].at[..., 0].add(jnp.sum(weights[..., :2], axis=-1))
    return within.at[..., -1].add(jnp.sum(weights[..., -2:], axis=-1))


def _cubic(x: jax.Array, a: float) -> jax.Array:
    """The cubic convolution kernel of distances, its slope at one being `a` (Keys 1981)."""
    near = ((a + 2.0) * x - (a + 3.0)) * x * x + 1.0
    far = (((x - 5.0) * x + 8.0) * x - 4.0) * a
    return jnp.where(x <= 1.0, near, jnp.where(x < 2.0, far, 0.0))
