"""Layers that work in fewer features than pass between them (MobileBERT, arXiv 2004.02984)."""

import jax
import jax.numpy as jnp

from jaxpool.nn import layers
from jaxpool.nn.arch import Arch
from jaxpool.nn.primitives import dense
from jaxpool.nn.segments import neighbours, take
from jaxpool.nn.stacked import unstack


def embed(params: dict, batch, arch: Arch) -> jax.Array:
    """`[B, T, D]`: the embeddings of the next token, the token and the one before, projected.

    Types and positions are added to what that gives.
    """
    chosen = layers.chosen_adapters(batch, arch)
    words = layers.lookup(params["token"], batch.tokens, arch, chosen)
    around = neighbours(words, batch.segments, 3)[:, :, ::-1]
    x = dense(params["project"], around, "btae,aed->btd")
    types = jnp.zeros_like(batch.tokens) if batch.types is None else batch.types
    x = x + layers.lookup(params["type"], types, arch, chosen)
    x = x + layers.lookup(params["position"], batch.positions, arch)
    return layers.arch_norm(params["norm"], x, arch)


def layer(p: dict, x: jax.Array, attend, arch: Arch, chosen, kept) -> jax.Array:
    """`[B, T, D] -> [B, T, D]`, or `[B, R, D]` of the tokens `kept`.

    Queries and keys are made of one narrow view of x, values of x itself, and the stream inside
    of another view. attend: see `attention.attention`; chosen: see `layers.chosen_adapters`.
    """
    mine = take(chosen, kept)

    def normed(params: dict, y: jax.Array) -> jax.Array:
        return layers.arch_norm(params["norm"], y, arch)

    shared = normed(p["shared"], dense(p["shared"], x, "btd,de->bte", chosen))
    q = dense(p["query"], take(shared, kept), "btd,dnh->btnh", mine)
    k = dense(p["key"], shared, "btd,dkh->btkh", chosen)
    v = dense(p["value"], x, "btd,dkh->btkh", chosen)
    stays = take(x, kept)
    y = normed(p["narrowed"], dense(p["narrowed"], stays, "btd,de->bte", mine))
    y = normed(p["out"], y + dense(p["out"], attend(q, k, v), "btnh,nhd->btd", mine))
    before = unstack(p["mlps"], len(p["mlps"]["up"]["bias"]))
    for each in (*before, p["mlp"]):
        y = normed(each, y + layers.mlp(each, y, arch, mine))
    return normed(p["widened"], stays + dense(p["widened"], y, "bte,ed->btd", mine))
