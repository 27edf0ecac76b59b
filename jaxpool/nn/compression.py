"""Documents that get shorter between layers (BGE's reranker v2.5, arXiv 2501.16302).

Before some layers each `ratio` neighbours of a document become their mean, and the tokens of a row
move together. What is saved is the time of the layers after: rows that are short enough after the
first time go on in arrays of fewer tokens, for which there is a second program of those layers.
"""

from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp

from jaxpool.nn.arch import Arch
from jaxpool.nn.segments import take

LANES = 128  # attention kernels want multiples of


def compressed(x: jax.Array, batch, arch: Arch, kept: jax.Array | None, run: Callable) -> jax.Array:
    """All layers: `[B, T, D]`, or `[B, R, D]` of the tokens `kept`; a token's is its group's.

    run: (x, batch, kept, (first, end)) -> the output of some layers.
    """
    assert arch.compression is not None
    bounds = (0, *arch.compression.layers, arch.layers)
    return _from(x, batch, kept, bounds, arch.compression.ratio, run)


def _from(x, batch, kept, bounds: Sequence[int], ratio: int, run: Callable) -> jax.Array:
    """The layers from the first of `bounds` to the last, with a compression at those between."""
    first, end, *others = bounds
    if not others:
        return run(x, batch, kept, (first, end))
    x, batch, slots = compress(run(x, batch, None, (first, end)), batch, ratio)
    wanted = None if kept is None else take(slots, kept)

    def rest(size: int) -> Callable:
        mine, row = jax.tree.map(lambda leaf: leaf[:, :size], (x, batch))
        return lambda: _from(mine, row, wanted, (end, *others), ratio, run)

    def whole(size: int) -> Callable:
        return lambda: take(rest(size)(), slots) if kept is None else rest(size)()

    length = x.shape[1]
    short = length if first else shorter(length, ratio)
    if short == length:
        return whole(length)()
    return jax.lax.cond(jnp.all(batch.segments[:, short:] == 0), whole(short), whole(length))


def shorter(length: int, ratio: int) -> int:
    """The tokens of a row that most rows of `length` fit into: a quarter more than `1 / ratio`.

    That is for queries and prompts, which stay as they are.
    """
    lanes = LANES if length > LANES else 8
    return min(length, -(-length * (4 + ratio) // (4 * ratio * lanes)) * lanes)


def compress(x: jax.Array, batch, ratio: int) -> tuple[jax.Array, object, jax.Array]:
    """Vectors and batch after each `ratio` neighbours of a document became one, moved together.

    Also the place `[B, T]` of each token in the new row, T for padding.
    """
    length = x.shape[1]
    index = jnp.arange(length, dtype=jnp.int32)
    real, document = batch.segments > 0, batch.types == 1
    before = jnp.pad(document, ((0, 0), (1, 0)))[:, :-1] & (batch.positions > 0)
    begin = jax.lax.cummax(jnp.where(document & ~before, index, 0), axis=1)
    opens = real & (~document | ((index - begin) % ratio == 0))
    places = jnp.cumsum(opens, axis=1, dtype=jnp.int32) - 1
    start = jax.lax.cummax(jnp.where(batch.positions == 0, places, 0), axis=1)
    slots = jnp.where(real, places, length)

    def moved(values: jax.Array) -> jax.Array:  # tokens of one slot agree
        return jax.vmap(lambda v, s: jnp.zeros_like(v).at[s].set(v, mode="drop"))(values, slots)

    sums = jax.vmap(lambda v, s: jax.ops.segment_sum(v, s, length))
    counts = jnp.maximum(sums(jnp.ones(x.shape[:2], jnp.float32), slots), 1.0)
    means = sums(x.astype(jnp.float32), slots) / counts[..., None]
    after = batch._replace(
        tokens=moved(batch.tokens),
        segments=moved(batch.segments),
        positions=moved(places - start),
        types=moved(batch.types),
        adapters=None if batch.adapters is None else moved(batch.adapters),
    )
    return means.astype(x.dtype), after, slots
