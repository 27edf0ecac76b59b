"""The layers of an `Arch` that all architectures have: norm, MLP, embeddings.

All take the parameters of one layer (a dict with Flax leaf names) first, then activations.
"""

from functools import partial

import jax
import jax.numpy as jnp

from jaxpool.nn.arch import Arch
from jaxpool.nn.primitives import ACTIVATIONS, dense, norm
from jaxpool.nn.segments import segment_sums, take


def chosen_adapters(batch, arch: Arch) -> jax.Array | None:
    """The weight of each adapter for each token, float32 `[B, T, q]`: one of them, or none."""
    if not arch.adapters:
        return None
    numbers = jnp.zeros_like(batch.tokens) if batch.adapters is None else batch.adapters
    return arch.adapter_scale * jax.nn.one_hot(numbers - 1, arch.adapters)


def arch_norm(params: dict, x: jax.Array, arch: Arch) -> jax.Array:
    """The norm of `arch`."""
    return norm(params, x, arch.norm, arch.norm_eps, arch.norm_offset)


def mlp(params: dict, x: jax.Array, arch: Arch, chosen=None) -> jax.Array:
    """`[B, T, D] -> [B, T, D]`: down(act(up(x))), or down(act(gate(x)) * up(x)) where gated."""
    act = partial(_xielu, params["curve"]) if "curve" in params else ACTIVATIONS[arch.activation]
    up = dense(params["up"], x, "btd,df->btf", chosen)
    hidden = act(dense(params["gate"], x, "btd,df->btf", chosen)) * up if arch.gated else act(up)
    if "sub_norm" in params:
        hidden = arch_norm(params["sub_norm"], hidden, arch)
    return dense(params["down"], hidden, "btf,fd->btd", chosen)


def _xielu(params: dict, x: jax.Array) -> jax.Array:
    """A learned parabola above zero, a learned exponential below (arXiv 2411.13010)."""
    y, beta = x.astype(jnp.float32), 0.5
    learned = (params[name].astype(jnp.float32) for name in ("above", "below"))
    above, below = map(jax.nn.softplus, learned)
    curved = (jnp.expm1(jnp.minimum(y, -1e-6)) - y) * (beta + below)
    return (jnp.where(y > 0, above * jnp.square(y), curved) + beta * y).astype(x.dtype)


def embed(params: dict, batch, arch: Arch, images=None, marks=None) -> jax.Array:
    """Token, type and learned position embeddings of a batch, normalized and projected as asked.

    images, marks: vectors `[B, S, E]` and `[M, E]` that some tokens have in place of embeddings:
    `batch.soft` has numbers of the former, or counts those of the latter down from -2.
    """
    chosen = chosen_adapters(batch, arch)
    x = lookup(params["token"], batch.tokens, arch, chosen)
    if arch.embed_scale != 1.0:
        # Gemma rounds the factor to the dtype of the activations.
        x = x * jnp.asarray(arch.embed_scale, x.dtype)
    if arch.dropped >= 0:
        x = _without(x, batch, arch)
    if images is not None:
        x = jnp.where(batch.soft[..., None] < 0, x, take(images, batch.soft).astype(x.dtype))
    if marks is not None:
        chosen_marks = jnp.take(marks, -2 - batch.soft, axis=0, mode="clip").astype(x.dtype)
        x = jnp.where(batch.soft[..., None] < -1, chosen_marks, x)
    if arch.token_types:
        types = jnp.zeros_like(batch.tokens) if batch.types is None else batch.types
        x = x + lookup(params["type"], types, arch, chosen)
    if arch.positions:
        x = x + lookup(params["position"], _rows(batch, arch), arch)
    if arch.task_types:
        x = x + params["task"]["embedding"][0].astype(x.dtype)
    if arch.embed_norm:
        x = arch_norm(params.get("norm", {}), x, arch)
    if "project" in params:
        x = dense(params["project"], x, "bte,ed->btd")
    return x


def _without(x: jax.Array, batch, arch: Arch) -> jax.Array:
    """Embeddings `[B, T, E]` less those of the dropped token, up to the sum they would have."""
    gone = batch.tokens == arch.dropped
    ones = jnp.ones_like(batch.tokens)
    share = segment_sums(batch, gone.astype(jnp.int32)) / segment_sums(batch, ones)
    grown = jnp.where(gone | (share == 1), 0.0, 1.0 / (1.0 - share))
    return (x * grown[..., None]).astype(x.dtype)


def _rows(batch, arch: Arch) -> jax.Array:
    """The row of each token `[B, T]` in the table of learned positions."""
    if arch.uncounted < 0:
        return batch.positions + arch.position_offset
    counted = batch.tokens != arch.uncounted
    counts = counted.astype(jnp.int32)
    before = jnp.cumsum(counts, axis=1) - counts
    # What came before the segment; `before` never falls, so its latest start is its highest.
    start = jax.lax.cummax(jnp.where(batch.positions == 0, before, 0), axis=1)
    return jnp.where(counted, before - start, -1) + arch.position_offset


def lookup(params: dict, ids: jax.Array, arch: Arch, chosen=None) -> jax.Array:
    """The rows of a table, with the adapters of the tokens that have one."""
    # "clip" keeps the padding of packed rows inside the table without the fill of NaNs.
    x = jnp.take(params["embedding"], ids, axis=0, mode="clip").astype(arch.dtype)
    if "lora_a" not in params:
        return x
    low = jnp.take(params["lora_a"]["embedding"], ids, axis=1, mode="clip").astype(jnp.float32)
    up = params["lora_b"]["kernel"].astype(jnp.float32)
    return x + jnp.einsum("qbtr,btq,qre->bte", low, chosen, up).astype(x.dtype)
