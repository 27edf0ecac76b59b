"""Attention over packed rows: which keys a token may see, and the product that uses it."""

import jax
import jax.numpy as jnp

from jaxpool.arch import Arch

NEVER = -1e30  # finite, so that a row without any key gives a mean instead of NaN


def visible(batch, arch: Arch, window: jax.Array | None) -> jax.Array:
    """Which keys each query sees, bool `[B, T, S]`: its own segment, its past, its window."""
    seen = batch.segments[:, :, None] == batch.segments[:, None, :]
    ahead = batch.positions[:, None, :] - batch.positions[:, :, None]
    if arch.causal:
        seen &= ahead <= 0
    if window is not None:
        seen &= (jnp.abs(ahead) <= window) | (window == 0)
    return seen


def attend(q, k, v, seen, bias, arch: Arch) -> jax.Array:
    """Softmax attention in float32: q `[B, T, N, H]`, k and v `[B, S, K, H]` -> `[B, T, N, H]`."""
    b, t, n, h = q.shape
    q = q.reshape(b, t, arch.kv_heads, n // arch.kv_heads, h)
    scores = jnp.einsum("btkgh,bskh->bkgts", q, k, preferred_element_type=jnp.float32)
    scores = scores * arch.scale
    if arch.attention_softcap:
        scores = arch.attention_softcap * jnp.tanh(scores / arch.attention_softcap)
    if bias is not None:
        scores = scores + bias.reshape(b, arch.kv_heads, -1, *bias.shape[-2:])
    scores = jnp.where(seen[:, None, None], scores, NEVER)
    weights = jax.nn.softmax(scores, axis=-1).astype(v.dtype)
    out = jnp.einsum("bkgts,bskh->btkgh", weights, v, preferred_element_type=jnp.float32)
    return out.reshape(b, t, n, h).astype(q.dtype)
