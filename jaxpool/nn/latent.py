"""Latent heads: queries, keys and values made of a few features (MLA, arXiv 2405.04434)."""

import jax
import jax.numpy as jnp

from jaxpool.nn.low_rank import LatentHeads
from jaxpool.nn.primitives import dense, norm
from jaxpool.nn.segments import take


def project(p: dict, x: jax.Array, facts: LatentHeads, chosen, kept) -> tuple:
    """q `[B, T, N, H]`, or of the tokens `kept`, k alike and v `[B, T, N, y]` of x `[B, T, D]`.

    The features that turn come first; those of a key are the same for all heads. chosen: see
    `layers.chosen_adapters`.
    """
    asking, mine = take(x, kept), take(chosen, kept)
    if facts.query_rank:
        asking = dense(p["query_low"], asking, "btd,dg->btg", mine)
        asking = norm(p["query_low_norm"], asking, "rms", facts.norm_eps)
    low = dense(p["low"], x, "btd,di->bti", chosen)
    low = norm(p["low_norm"], low, "rms", facts.norm_eps)
    turned = dense(p["key_turned"], x, "btd,do->bto", chosen)[:, :, None]
    still = dense(p["key"], low, "bti,inz->btnz", chosen)
    turned = jnp.broadcast_to(turned, (*still.shape[:3], turned.shape[-1]))
    key = jnp.concatenate([turned, still], axis=-1)
    names = ("query_turned", "query")
    query = [dense(p[name], asking, "btg,gnh->btnh", mine) for name in names]
    value = dense(p["value"], low, "bti,iny->btny", chosen)
    return jnp.concatenate(query, axis=-1), key, value
