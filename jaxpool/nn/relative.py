"""Attention to contents, distances and parts of a text (Transformer-XL and XLNet).

Dai et al. (arXiv 1901.02860), Yang et al. (arXiv 1906.08237); both ways, without memories.
"""

import jax
import jax.numpy as jnp

from jaxpool.nn.arch import Arch
from jaxpool.nn.primitives import dense
from jaxpool.nn.segments import NEVER, take


def mix(params: dict, x: jax.Array, batch, arch: Arch, chosen, kept) -> jax.Array:
    """`[B, T, D] -> [B, T, D]`, or `[B, R, D]` of the tokens `kept`; three scores are added."""
    mine, length = take(chosen, kept), x.shape[1]
    q = dense(params["query"], take(x, kept), "btd,dnh->btnh", mine)
    k, v = (dense(params[name], x, "btd,dnh->btnh", chosen) for name in ("key", "value"))
    waves = _sinusoids(length, arch.dim)[None].astype(x.dtype)
    r = dense(params["distance"], waves, "btd,dnh->btnh")[0]

    def query(kind: str) -> jax.Array:
        return q + params[f"{kind}_query"]["bias"].astype(q.dtype)

    distance = take(batch.positions, kept)[:, :, None] - batch.positions[:, None]
    index = jnp.clip(distance + length - 1, 0, 2 * length - 2)
    scores = _product("btnh,bsnh->bnts", query("content"), k)
    toward = _product("btnh,unh->bntu", query("distance"), r)
    scores = scores + jnp.take_along_axis(toward, index[:, None], axis=-1)
    if batch.types is not None:
        kinds = params["parts"]["embedding"].astype(q.dtype)
        toward = _product("btnh,anh->bnta", query("part"), kinds)
        other = take(batch.types, kept)[:, :, None] != batch.types[:, None]
        scores = scores + jnp.where(other[:, None], toward[..., 1:], toward[..., :1])
    seen = take(batch.segments, kept)[:, :, None] == batch.segments[:, None]
    if batch.context is not None:
        seen &= batch.context[:, None] >= 0
    weights = jax.nn.softmax(jnp.where(seen[:, None], scores * arch.scale, NEVER), axis=-1)
    out = _product("bnts,bsnh->btnh", weights.astype(v.dtype), v).astype(x.dtype)
    return dense(params["out"], out, "btnh,nhd->btd", mine)


def _sinusoids(length: int, dim: int) -> jax.Array:
    """Sines and cosines of the distances 1 - `length` ... `length` - 1: float32 `[., D]`."""
    rates = 1.0 / 10000.0 ** (jnp.arange(0, dim, 2, dtype=jnp.float32) / dim)
    angles = jnp.arange(1.0 - length, length)[:, None] * rates
    return jnp.concatenate([jnp.sin(angles), jnp.cos(angles)], axis=-1)


def _product(subscripts: str, a, b) -> jax.Array:
    return jnp.einsum(subscripts, a, b, preferred_element_type=jnp.float32)
