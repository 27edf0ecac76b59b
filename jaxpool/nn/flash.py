"""Flash attention over packed rows for GPUs (arXiv 2205.14135), in Pallas through Triton.

A block of queries reads the keys from the start of its first text to the end of its last one, or as
far as its past and its window go. There is no mask or bias of the square of a row's length.
"""

import math
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.experimental import pallas as pl
from jax.experimental.pallas import triton

from jaxpool.nn.arch import Arch
from jaxpool.nn.segments import NEVER

BEHIND = -1  # the segment of what lies behind the end of a row
SMALLEST = 16  # tokens or features of a product


class Blocks(NamedTuple):
    """Queries and keys of a block, and how Triton runs it."""

    queries: int
    keys: int
    warps: int
    stages: int


# By the features of a head, as a power of two: the fastest of those tried on an H200 that fit in
# the shared memory of smaller cards.
BLOCKS = {64: Blocks(128, 64, 4, 3), 128: Blocks(64, 32, 4, 3), 256: Blocks(64, 32, 4, 2)}


def flash(q, k, v, segments, arch: Arch, reach: int, interpret: bool = False) -> jax.Array:
    """Attention of q `[B, T, N, H]` to k and v `[B, T, K, H]` -> `[B, T, N, H]`.

    Values may have fewer features. segments: int32 `[B, T]`, in which the tokens of a text lie side
    by side; reach: how far a token sees, 0 for without end; interpret: run without a GPU.
    """
    rows, length, heads, features = q.shape
    narrow = v.shape[-1]
    v = jnp.pad(v, (*((0, 0),) * 3, (0, features - narrow)))
    width = max(SMALLEST, pl.next_power_of_2(features))
    blocks = BLOCKS[max(width, min(BLOCKS))]
    short = max(SMALLEST, pl.next_power_of_2(length))
    blocks = blocks._replace(queries=min(blocks.queries, short), keys=min(blocks.keys, short))
    most = max(blocks.queries, blocks.keys)
    padded = pl.cdiv(length, most) * most
    segments = jnp.pad(segments, ((0, 0), (0, padded - length)), constant_values=BEHIND)
    group = heads // k.shape[2]
    bound = pl.BlockSpec((None, 1), lambda row, head, block: (row, block))
    row = pl.BlockSpec((None, padded), lambda row, head, block: (row, 0))
    keys = pl.BlockSpec(
        (None, padded, None, width), lambda row, head, _: (row, 0, head // group, 0)
    )
    mine = pl.BlockSpec(
        (None, blocks.queries, None, width), lambda row, head, block: (row, block, head, 0)
    )
    call = pl.pallas_call(
        partial(_kernel, arch=arch, reach=reach, blocks=blocks, length=length, features=features),
        grid=(rows, heads, pl.cdiv(length, blocks.queries)),
        in_specs=[bound, bound, row, mine, keys, keys],
        out_specs=mine,
        out_shape=jax.ShapeDtypeStruct(q.shape, q.dtype),
        compiler_params=triton.CompilerParams(num_warps=blocks.warps, num_stages=blocks.stages),
        interpret=interpret,
        name="flash",
    )
    out = call(*extents(segments, blocks, arch.causal, reach), segments, q, k, v)
    return out[..., :narrow]


def extents(segments, blocks: Blocks, causal: bool, reach: int) -> tuple[jax.Array, jax.Array]:
    """The first block of keys of each block of queries and the one past its last, `[B, blocks]`."""
    length = segments.shape[1]
    at = jnp.arange(length, dtype=jnp.int32)
    changes = segments[:, 1:] != segments[:, :-1]
    starts = jnp.pad(changes, ((0, 0), (1, 0)), constant_values=True)
    ends = jnp.pad(changes, ((0, 0), (0, 1)), constant_values=True)
    first = jax.lax.cummax(jnp.where(starts, at, 0), axis=1)[:, :: blocks.queries]
    last = jax.lax.cummin(jnp.where(ends, at + 1, length), axis=1, reverse=True)
    last = last[:, blocks.queries - 1 :: blocks.queries]
    begin = at[:: blocks.queries]
    end = begin + blocks.queries
    if causal:
        last = jnp.minimum(last, end)
    if reach:
        first, last = jnp.maximum(first, begin - reach), jnp.minimum(last, end + reach)
    return first // blocks.keys, pl.cdiv(last, blocks.keys)


def _kernel(first, last, segments, q, k, v, out, *, arch: Arch, reach, blocks, length, features):
    """One block of queries of one head."""
    begin = pl.program_id(2) * blocks.queries
    at = begin + jnp.arange(blocks.queries)
    inside = partial(_inside, length=length, features=features, shape=k.shape)
    mine = segments[pl.ds(begin, blocks.queries)]
    asked = _load(q, inside(at))
    scale = arch.scale * (1.0 if arch.attention_softcap else math.log2(math.e))

    def step(i, carry):
        summed, highest, total = carry
        there = pl.ds(i * blocks.keys, blocks.keys)
        keys_at = i * blocks.keys + jnp.arange(blocks.keys)
        real = inside(keys_at)
        scores = triton.dot(asked, _load(k.at[there, :], real), trans_b=True) * scale
        if cap := arch.attention_softcap:
            scores = jnp.tanh(scores / cap) * (cap * math.log2(math.e))
        ahead = keys_at[None, :] - at[:, None]
        seen = mine[:, None] == segments[there][None, :]
        if arch.causal:
            seen &= ahead <= 0
        if reach:
            seen &= jnp.abs(ahead) <= reach
        scores = jnp.where(seen, scores, NEVER)
        peak = jnp.maximum(highest, jnp.max(scores, axis=1))
        weights = jnp.exp2(scores - peak[:, None])
        fade = jnp.exp2(highest - peak)
        values = triton.dot(weights.astype(v.dtype), _load(v.at[there, :], real))
        return summed * fade[:, None] + values, peak, total * fade + jnp.sum(weights, axis=1)

    zeros = jnp.zeros(blocks.queries, jnp.float32)
    start = (jnp.zeros(asked.shape, jnp.float32), zeros + NEVER, zeros)
    summed, _, total = jax.lax.fori_loop(first[0], last[0], step, start)
    triton.store(out, (summed / total[:, None]).astype(out.dtype), mask=inside(at))


def _inside(at: jax.Array, length: int, features: int, shape) -> jax.Array | None:
    """Which elements of a block of `shape`, padded, exist: bool `[tokens, features]`; None: all."""
    if shape == (length, features):
        return None
    return (at < length)[:, None] & (jnp.arange(shape[1]) < features)[None, :]


def _load(block, real: jax.Array | None) -> jax.Array:
    return triton.load(block) if real is None else triton.load(block, mask=real, other=0)
