"""The gated delta rule in chunks (Gated DeltaNet, arXiv 2412.06464; chunks: arXiv 2406.06484).

A head's memory is a matrix S of keys by values. Each token lets it fade by exp(g), corrects what
it has for the token's key towards the token's value, by the share beta, and reads it by the query:

    S = exp(g) S;    S = S + beta k (v - S' k)';    out = S' q

The tokens of a chunk do so at once, by matrix products; what one chunk leaves goes on to the next.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from jaxpool.nn.arch import Arch
from jaxpool.nn.primitives import dense, norm
from jaxpool.nn.segments import NEVER, convolve, take

CHUNK = 64
SMALL = 16  # matrices whose blocks are not worth cutting out


class Memories(NamedTuple):
    """What the heads read and write, float32: query and key `[B, T, n, k]`, value `[B, T, x, y]`,
    fade (the logarithm) and share `[B, T, x]`."""

    query: jax.Array
    key: jax.Array
    value: jax.Array
    fade: jax.Array
    share: jax.Array


def mix(params: dict, x: jax.Array, batch, arch: Arch, chosen, kept) -> jax.Array:
    """out(norm(memory) * silu(gate)); queries, keys and values pass through short convolutions."""
    conv, f32 = params["conv"], jnp.float32

    def features(name: str, axes: str) -> jax.Array:
        y = dense(params[name], x, f"btd,d{axes}->bt{axes}", chosen)
        return jax.nn.silu(convolve(conv[name], y, batch.segments, True).astype(f32))

    query, key = (_unit(features(name, "nk")) for name in ("query", "key"))
    value = features("value", "xy")
    share = jax.nn.sigmoid(dense(params["write"], x, "btd,dx->btx", chosen).astype(f32))
    fade = dense(params["decay"], x, "btd,dx->btx", chosen).astype(f32)
    rate, bias = (params["rate"][name].astype(f32) for name in ("scale", "bias"))
    fade = -jnp.exp(rate) * jax.nn.softplus(fade + bias)
    read = delta_rule(Memories(query, key, value, fade, share), batch.segments)
    gate = dense(params["gate"], take(x, kept), "btd,dxy->btxy", take(chosen, kept))
    y = norm(params["norm"], take(read, kept), "rms", arch.norm_eps)
    y = (y * jax.nn.silu(gate.astype(f32))).astype(x.dtype)
    return dense(params["out"], y, "btxy,xyd->btd", take(chosen, kept))


def _unit(x: jax.Array) -> jax.Array:
    return x * jax.lax.rsqrt(jnp.sum(jnp.square(x), axis=-1, keepdims=True) + 1e-6)


def delta_rule(each: Memories, segments: jax.Array) -> jax.Array:
    """What the tokens read, `[B, T, x, y]` in float32, each of its own text alone.

    Shapes within: `[m, B, n, g, C, ...]`: chunks, rows, key heads, value heads of each, tokens.
    """
    length, heads, width = each.value.shape[1:]
    q, k, v, fade, share = _chunks(each)
    owner = _chunked(segments, 0)
    before = jnp.concatenate([jnp.full_like(owner[:1, :, -1], -1), owner[:-1, :, -1]])
    last = owner[:, :, -1]
    past = jnp.tril(owner[..., :, None] == owner[..., None, :])[:, :, None, None]
    # The logarithm of what is left since the chunk began, or the text in it: a sum that went on
    # over other texts would cost the digits of theirs.
    total = jnp.sum(jnp.where(past, fade[..., None, :], 0.0), axis=-1)
    passed = jnp.exp(jnp.where(past, total[..., :, None] - total[..., None, :], NEVER))
    from_before = jnp.exp(total) * _belongs(owner, before)
    to_next = jnp.exp(total[..., -1:] - total) * _belongs(owner, last)
    stays = jnp.exp(total[..., -1:]) * _belongs(before[..., None], last)

    # What a token corrects depends on what those before it in the chunk did: a triangular system.
    among = _products(k, k) * passed * share[..., None]
    solve = inverse(among) * share[..., None, :]
    inside = _products(q, k) * passed

    def step(memory, chunk):
        solve, inside, value, query, key, left, stays = chunk
        written = solve @ (value - key @ memory)
        read = query @ memory + inside @ written
        return memory * stays[..., None] + jnp.swapaxes(left, -1, -2) @ written, read

    memory = jnp.zeros((*v.shape[1:4], k.shape[-1], width), jnp.float32)
    asked, known, left = (
        x * factor[..., None] for x, factor in ((q, from_before), (k, from_before), (k, to_next))
    )
    parts = (solve, inside, v, asked, known, left, stays)
    read = jax.lax.scan(step, memory, parts)[1]
    read = jnp.moveaxis(read, (0, 4), (1, 2))  # [B, m, C, n, g, y]
    return read.reshape(len(segments), -1, heads, width)[:, :length]


def inverse(lower: jax.Array) -> jax.Array:
    """The inverse of lower triangular matrices `[..., C, C]`; diagonals count as ones.

    By products of blocks, in log2(C) steps: that of [[a, 0], [c, b]] is [[a', 0], [-b' c a', b']].
    A sum of powers needs as many, but its terms grow where keys are alike, and cancel.
    """
    size = lower.shape[-1]
    if size > SMALL and size % 2 == 0:
        half = size // 2
        blocks = jnp.stack([lower[..., :half, :half], lower[..., half:, half:]])
        first, second = inverse(blocks)
        below = -second @ lower[..., half:, :half] @ first
        above = jnp.concatenate([first, jnp.zeros_like(first)], axis=-1)
        return jnp.concatenate([above, jnp.concatenate([below, second], axis=-1)], axis=-2)
    found = jnp.broadcast_to(jnp.eye(size), lower.shape)
    for width in (2**i for i in range((size - 1).bit_length())):
        block = jnp.arange(size) // width  # blocks of one pair lie below one another
        below = (block[:, None] % 2 == 1) & (block[:, None] - 1 == block)
        found -= found @ jnp.where(below, lower, 0.0) @ found
    return found


def _chunks(each: Memories) -> Memories:
    """The memories by chunks, value heads in groups that share a key head; queries are scaled."""
    heads, scale = each.key.shape[2], each.key.shape[-1] ** -0.5

    def grouped(x: jax.Array) -> jax.Array:
        return _chunked(x.reshape(*x.shape[:2], heads, -1, *x.shape[3:]), 2)

    query, key = _chunked(each.query * scale, 1), _chunked(each.key, 1)
    values = (grouped(x) for x in (each.value, each.fade, each.share))
    return Memories(query[:, :, :, None], key[:, :, :, None], *values)


def _chunked(x: jax.Array, heads: int) -> jax.Array:
    """`[B, T, ...]` as `[m, B, ..., C, ...]`, the tokens after so many axes of heads."""
    size = min(CHUNK, x.shape[1])
    x = jnp.pad(x, ((0, 0), (0, -x.shape[1] % size), *((0, 0),) * (x.ndim - 2)))
    x = x.reshape(len(x), -1, size, *x.shape[2:])
    return jnp.moveaxis(x, (1, 2), (0, 2 + heads))


def _belongs(owner: jax.Array, text: jax.Array) -> jax.Array:
    """One where a token is of a given text, `[m, B, 1, 1, C]`."""
    return (owner == text[..., None])[:, :, None, None].astype(jnp.float32)


def _products(a: jax.Array, b: jax.Array) -> jax.Array:
    return a @ jnp.swapaxes(b, -1, -2)
