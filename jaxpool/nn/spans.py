"""Heads that convolve, with weights made of the token and its surroundings (ConvBERT)."""

import jax
import jax.numpy as jnp

from jaxpool.nn.primitives import dense
from jaxpool.nn.segments import convolve, neighbours, take


def mix(params: dict, x: jax.Array, query: jax.Array, batch, chosen, kept) -> jax.Array:
    """`[B, T, D] -> [B, T, D]`, or `[B, R, D]` of the tokens `kept` (arXiv 2008.02496).

    query: of attention, `[B, R, N, H]`; chosen: see `layers.chosen_adapters`.
    """
    mine = take(chosen, kept)
    near = take(convolve(params["conv"], x, batch.segments, False), kept)
    span = query * dense(params["key"], near, "btd,dnh->btnh", mine)
    weights = dense(params["weights"], span, "btnh,nhza->btza", mine).astype(jnp.float32)
    weights = jax.nn.softmax(weights, axis=-1)
    value = dense(params["value"], x, "btd,dnh->btnh", chosen)
    around = take(neighbours(value, batch.segments, weights.shape[-1]), kept)
    y = jnp.einsum("btna,btanh->btnh", weights, around.astype(jnp.float32)).astype(x.dtype)
    return dense(params["out"], y, "btnh,nhd->btd", mine)
