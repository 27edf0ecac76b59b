"""Selective state spaces (Mamba, arXiv 2312.00752), with the norms that Jamba adds (2403.19887).

Each feature p has a state of i numbers, which fades and takes in the feature token by token:

    h = exp(step A) h + step write x;    out = read' h + skip x

The tokens of a chunk do so in a logarithm of their number of steps; a chunk's state goes on to the
next. A text begins with a state of zeros.
"""

import jax
import jax.numpy as jnp

from jaxpool.nn.arch import Arch
from jaxpool.nn.primitives import ACTIVATIONS, dense, norm
from jaxpool.nn.segments import convolve, take

CHUNK = 64


def mix(params: dict, x: jax.Array, batch, arch: Arch, chosen, kept) -> jax.Array:
    """down(state space(act(convolve(value))) * silu(gate)), the state space in float32."""
    value = dense(params["value"], x, "btd,dp->btp", chosen)
    value = ACTIVATIONS[arch.activation](convolve(params["conv"], value, batch.segments, True))

    def selected(name: str, letter: str) -> jax.Array:
        y = dense(params[name], value, f"btp,p{letter}->bt{letter}", chosen)
        return norm(params[f"{name}_norm"], y, "rms", arch.norm_eps)

    step = selected("time", "g").astype(jnp.float32)  # as the authors', not rounded once more
    step = dense(params["step"], step, "btg,gp->btp", chosen)
    each = (jax.nn.softplus(step), value, selected("write", "i"))
    fading = -jnp.exp(params["rate"]["scale"].astype(jnp.float32))
    out = state_space(fading, *each, selected("read", "i"), batch.segments)
    out += params["skip"]["scale"].astype(jnp.float32) * value.astype(jnp.float32)
    gate = dense(params["gate"], take(x, kept), "btd,dp->btp", take(chosen, kept))
    y = take(out, kept) * jax.nn.silu(gate.astype(jnp.float32))
    return dense(params["down"], y.astype(x.dtype), "btp,pd->btd", take(chosen, kept))


def state_space(fading, step, value, write, read, segments: jax.Array) -> jax.Array:
    """read' h of every token, float32 `[B, T, p]`.

    fading `[p, i]`; step and value `[B, T, p]`; write and read `[B, T, i]`.
    """
    length = segments.shape[1]
    before = jnp.pad(segments[:, :-1], ((0, 0), (1, 0)), constant_values=-1)
    goes_on = (segments == before)[..., None, None]

    def combine(one, other):
        return one[0] * other[0], one[1] * other[0] + other[1]

    def advance(state, chunk):
        step, value, write, read, goes_on = chunk
        keeps = jnp.where(goes_on, jnp.exp(step[..., None] * fading), 0.0)
        takes = (step * value)[..., None] * write[:, :, None]
        kept, taken = jax.lax.associative_scan(combine, (keeps, takes), axis=1)
        states = kept * state[:, None] + taken
        return states[:, -1], jnp.einsum("btpi,bti->btp", states, read)

    parts = [x.astype(jnp.float32) for x in (step, value, write, read)]
    state = jnp.zeros((len(segments), *fading.shape), jnp.float32)
    chunks = tuple(_chunked(x) for x in (*parts, goes_on))
    out = jnp.moveaxis(jax.lax.scan(advance, state, chunks)[1], 0, 1)
    return out.reshape(*out.shape[:1], -1, out.shape[-1])[:, :length]


def _chunked(x: jax.Array) -> jax.Array:
    """`[B, T, ...]` as `[m, B, C, ...]`, the last chunk filled with zeros."""
    size = min(CHUNK, x.shape[1])
    x = jnp.pad(x, ((0, 0), (0, -x.shape[1] % size), *((0, 0),) * (x.ndim - 2)))
    return jnp.moveaxis(x.reshape(len(x), -1, size, *x.shape[2:]), 1, 0)
