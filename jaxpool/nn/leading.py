"""A first token that attends to its whole text by products of its own (Longformer)."""

import jax
import jax.numpy as jnp

from jaxpool.nn.arch import Arch
from jaxpool.nn.primitives import dense
from jaxpool.nn.segments import take


def replace(params: dict, mixed, x, batch, arch: Arch, chosen, kept) -> jax.Array:
    """`mixed [B, R, N, H]` with what first tokens take from their texts (arXiv 2004.05150).

    Only first tokens ask, so that each token has one score a head: that with the first of its own
    text. chosen: see `layers.chosen_adapters`; kept: the tokens of `mixed`.
    """
    q = dense(params["query"], x, "btd,dnh->btnh", chosen)
    k = dense(params["key"], x, "btd,dkh->btkh", chosen)
    v = dense(params["value"], x, "btd,dkh->btkh", chosen).astype(jnp.float32)
    (rows, length), heads = batch.positions.shape, q.shape[2]
    first = take(q, jnp.arange(length) - batch.positions).astype(jnp.float32)
    scores = jnp.sum(first * k.astype(jnp.float32), axis=-1) * arch.scale
    slots = batch.segments + (length + 1) * jnp.arange(rows, dtype=jnp.int32)[:, None]
    slots, count = slots.reshape(-1), rows * (length + 1)
    flat = scores.reshape(-1, heads)
    most = jax.ops.segment_max(jax.lax.stop_gradient(flat), slots, count)[slots]
    weights = jnp.exp(flat - most)
    total = jax.ops.segment_sum(weights, slots, count)
    weighted = weights[..., None] * v.reshape(-1, *v.shape[2:])
    read = jax.ops.segment_sum(weighted, slots, count) / total[..., None]
    read = take(read[slots].reshape(v.shape), kept).astype(mixed.dtype)
    return jnp.where(take(batch.positions, kept)[..., None, None] == 0, read, mixed)
