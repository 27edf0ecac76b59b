"""The forward of disentangled attention: contents and relative positions attend apart.

He et al., DeBERTa (arXiv 2006.03654) and DeBERTa-v3 (arXiv 2111.09543).
"""

from collections.abc import Callable
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

from jaxpool.nn import layers
from jaxpool.nn.arch import Arch, Disentangled
from jaxpool.nn.dropout import OFF, Dropout, drop, split
from jaxpool.nn.masks import Places, visible
from jaxpool.nn.remat import remat as checkpointed
from jaxpool.nn.segments import NEVER
from jaxpool.nn.stacked import from_bits, unstack


def forward(
    params: dict,
    batch,
    arch: Arch,
    unroll: bool = False,
    *,
    dropout: Dropout = OFF,
    key: jax.Array | None = None,
    remat: str = "none",
) -> jax.Array:
    """Hidden states `[B, T, D]`: the signature of `transformer.forward`, which routes here."""
    facts = arch.disentangled
    assert facts is not None  # `transformer.forward` routes by it
    first, key = split(key, 2)
    x = drop(layers.embed(params["embed"], batch, arch), dropout.hidden, first)
    places = Places(batch.segments, batch.positions)
    seen = visible(places, places, arch, 0)
    index = _index(batch.positions, facts, arch.max_length)
    relative = _relative(params, facts, arch)
    mixed = _convolve(params["conv"], x, batch, facts) if facts.taps else None

    def layer(x, scanned):
        p, first, key = from_bits(scanned)
        weights_key, attention_key, mlp_key = split(key, 3)
        thin = partial(drop, rate=dropout.attention, key=weights_key)
        out = _attention(p["attention"], x, relative, index, seen, facts, arch, thin)
        out = drop(out, dropout.hidden, attention_key)
        x = layers.arch_norm(p["attention_norm"], x + out, arch)
        out = drop(layers.mlp(p["mlp"], x, arch), dropout.hidden, mlp_key)
        x = layers.arch_norm(p["mlp_norm"], x + out, arch)
        if mixed is not None:
            x = jnp.where(first, layers.arch_norm(params["conv"]["norm"], x + mixed, arch), x)
        return x, None

    keys = None if key is None else jax.random.split(key, arch.layers)
    scanned = (params["layers"], jnp.arange(arch.layers) == 0, keys)
    layer = checkpointed(layer, remat, unroll)
    return _run(layer, x, scanned, arch.layers if unroll else 0)


def _run(layer: Callable, x, scanned: tuple, unrolled: int) -> jax.Array:
    """All layers in turn: scanned, or `unrolled` of them in a Python loop."""
    if not unrolled:
        return jax.lax.scan(layer, x, scanned)[0]
    for each in unstack(scanned, unrolled):
        x, _ = layer(x, each)
    return x


def buckets(facts: Disentangled, longest: int) -> np.ndarray:
    """The bucket of each distance 0 ... `longest`: exact up to half the span, then logarithmic.

    In float32 and in this order of operations, as checkpoints were trained.
    """
    distance = np.arange(longest + 1)
    if not facts.max_distance:
        return distance
    half = facts.span // 2
    far = np.log(np.maximum(distance, half).astype(np.float32) / np.float32(half))
    reach = np.log(np.float32((facts.max_distance - 1) / half))
    far = np.ceil(far / reach * np.float32(half - 1)).astype(np.int64) + half
    return np.where(distance <= half, distance, far)


def _index(positions: jax.Array, facts: Disentangled, longest: int) -> jax.Array | None:
    """The row of the relative table for each query and key, `[B, T, S]`."""
    if not facts.span:
        return None
    table = jnp.asarray(buckets(facts, longest), jnp.int32)
    distance = positions[:, :, None] - positions[:, None, :]
    bucket = jnp.sign(distance) * jnp.take(table, jnp.abs(distance), mode="clip")
    return jnp.clip(bucket + facts.span, 0, 2 * facts.span - 1)


def _relative(params: dict, facts: Disentangled, arch: Arch) -> jax.Array | None:
    """The relative table `[1, U, D]` that all layers share."""
    if not facts.span:
        return None
    table = params["relative"]["embedding"][None].astype(arch.dtype)
    if facts.normed:
        table = layers.arch_norm(params["relative"]["norm"], table, arch)
    return table


def _attention(
    p: dict, x, relative, index, seen, facts: Disentangled, arch: Arch, thin
) -> jax.Array:
    """`[B, T, D] -> [B, T, D]`; scores are the sum of up to three products, scaled together."""
    q, k, v = (layers.dense(p[name], x, "btd,dnh->btnh") for name in ("query", "key", "value"))
    scores = _product("btnh,bsnh->bnts", q, k)
    if facts.content_to_position:
        keys = layers.dense(p["key" if facts.shared else "position_key"], relative, "btd,dnh->btnh")
        toward = _product("btnh,unh->bntu", q, keys[0])
        scores = scores + jnp.take_along_axis(toward, index[:, None], axis=-1)
    if facts.position_to_content:
        name = "query" if facts.shared else "position_query"
        queries = layers.dense(p[name], relative, "btd,dnh->btnh")
        toward = _product("bsnh,unh->bnsu", k, queries[0])
        found = jnp.take_along_axis(toward, index.swapaxes(1, 2)[:, None], axis=-1)
        scores = scores + found.swapaxes(2, 3)
    scores = jnp.where(seen[:, None], scores * arch.scale, NEVER)
    weights = thin(jax.nn.softmax(scores, axis=-1)).astype(v.dtype)
    out = _product("bnts,bsnh->btnh", weights, v).astype(x.dtype)
    return layers.dense(p["out"], out, "btnh,nhd->btd")


def _product(subscripts: str, a, b) -> jax.Array:
    return jnp.einsum(subscripts, a, b, preferred_element_type=jnp.float32)


def _convolve(p: dict, x, batch, facts: Disentangled) -> jax.Array:
    """A convolution over the tokens of each segment, `[B, T, D] -> [B, T, D]`, and its activation.

    One product a tap: neighbours of another segment count as zero.
    """
    taps, (b, t, d) = facts.taps, x.shape
    size = p["kernel"].shape[1]  # features of a group
    kernel = p["kernel"].reshape(taps, size, d // size, size)
    out = p["bias"].astype(jnp.float32)
    for tap in range(taps):
        shift = tap - (taps - 1) // 2
        same = _shifted(batch.segments, shift) == batch.segments
        near = jnp.where(same[..., None], _shifted(x, shift), 0).reshape(b, t, -1, size)
        part = _product("btgq,qgo->btgo", near.astype(kernel.dtype), kernel[tap])
        out = out + part.reshape(x.shape)
    return layers.ACTIVATIONS[facts.conv_activation](out).astype(x.dtype)


def _shifted(x, by: int) -> jax.Array:
    """What lies `by` tokens ahead; -1 or zeros beyond the ends never match a segment."""
    pad = [(0, 0)] * x.ndim
    pad[1] = (max(-by, 0), max(by, 0))
    start = max(by, 0)
    fill = -1 if jnp.issubdtype(x.dtype, jnp.integer) else 0
    padded = jnp.pad(x, pad, constant_values=fill)
    return jax.lax.slice_in_dim(padded, start, start + x.shape[1], axis=1)
