"""Attention over packed rows: the products of queries, keys and values."""

from collections.abc import Callable
from functools import partial
from typing import Literal

import jax
import jax.numpy as jnp

from jaxpool.nn.arch import Arch
from jaxpool.nn.dropout import drop
from jaxpool.nn.kernels import CUDNN, backend, suits_cudnn, xla
from jaxpool.nn.masks import Places, squares, visible
from jaxpool.nn.positions import attention_bias
from jaxpool.nn.segments import NEVER, take
from jaxpool.nn.splash import splash

BLOCK = 128  # most queries of one block
QUARTERS = 4  # a causal row is cut into so many parts, each with its own extent of keys
CUDNN_NEVER = -(2.0**15)  # `NEVER` there: float16 holds it
CUDNN_IMPLEMENTATION: Literal["cudnn", "xla"] = "cudnn"  # tests compile the other
INTERPRET = False  # run Pallas kernels without their chip (tests)


def attention(
    params: dict,
    batch,
    arch: Arch,
    kept: jax.Array | None = None,
    rate: float = 0.0,
    memory: Places | None = None,
) -> Callable:
    """`attend(q, k, v, window, sink, key)` for the layers of one batch; q of tokens `kept` alone.

    q `[B, T, N, H]`, k and v `[B, T, K, H]` -> `[B, T, N, H]`; `window` is the layer's reach, a
    scalar out of `arch.windows` (None without). Each distinct reach has a program of its own.
    sink: the scores `[N]` of no key, where `arch.sinks`; rate: the share of weights that dropout
    takes away where there is a key; dense scores know it. memory: the places of further keys, which
    follow those of the row, and which all tokens of their segment see.
    """
    places = Places(batch.segments, batch.positions, batch.context)
    kernel = _kernel(places, arch, kept, rate, memory)
    reaches = sorted(set(arch.windows)) or [0]

    def program(reach: int) -> Callable:
        if not (reach and arch.patches):
            return kernel(params, places, arch, reach)
        # The patches of a square lie apart, which fused kernels do not expect.
        inside = places._replace(segments=squares(batch, reach))
        return KERNELS[xla(batch.segments.shape[1])](params, inside, arch, 0)

    programs = [program(reach) for reach in reaches]

    def attend(q, k, v, window, sink=None, key=None):
        beside = {} if sink is None else {"sink": sink}
        beside |= {"key": key} if rate and key is not None else {}
        runs = [partial(program, **beside) for program in programs]
        if len(runs) == 1:
            return runs[0](q, k, v)
        index = jnp.searchsorted(jnp.asarray(reaches), window)
        return jax.lax.switch(index, runs, q, k, v)

    return attend


def _kernel(places: Places, arch: Arch, kept, rate: float, memory: Places | None) -> Callable:
    """The kernel that computes what is asked of `attention`."""
    length = places.segments.shape[1]
    if memory is not None or kept is not None or rate:
        queries = places.map(lambda x: take(x, kept))
        if memory is not None:
            return partial(_merged, memory=memory, queries=queries)
        return partial(_dense, queries=queries, rate=rate)
    # The fused kernels mask by segment only, and know nothing of `context`.
    return KERNELS[backend(arch, length) if places.context is None else xla(length)]


def _added(params: dict, queries: Places, keys: Places, arch: Arch, reach: int) -> jax.Array:
    """What is added to the scores, float32 `[B, 1 or N, T, S]`: the bias, and `NEVER` where unseen.

    Added rather than selected by `where`: XLA on CPU then fuses it with the softmax.
    """
    unseen = jnp.where(visible(queries, keys, arch, reach), 0.0, NEVER)[:, None]
    bias = attention_bias(params, queries.positions, keys.positions, arch)
    return unseen if bias is None else bias + unseen


def _dense(
    params, places: Places, arch: Arch, reach: int, queries: Places | None = None, rate: float = 0.0
):
    """All scores at once; `queries` are those of the row unless given."""
    bias = _added(params, queries or places, places, arch, reach)

    def attend(q, k, v, sink=None, key=None):
        thin = partial(drop, rate=rate, key=key)
        out = _product(*_heads_first(q, k, v, arch), bias, arch, sink, thin)
        return _tokens_first(out, q)

    return attend


def _merged(params, places: Places, arch: Arch, reach: int, memory: Places, queries: Places):
    """Keys of the row and of a memory side by side, a block of queries at a time."""
    both = arch.replace(causal=False)
    length = queries.segments.shape[1]
    size = min(length, BLOCK)
    blocks = -(-length // size)
    pad = ((0, 0), (0, blocks * size - length))
    queries = queries.map(lambda x: jnp.pad(x, pad))

    def attend(q, k, v):
        qs, ks, vs = _heads_first(jnp.pad(q, (*pad, (0, 0), (0, 0))), k, v, arch)

        def block(i):
            mine = queries.at(i * size, size)
            own = _added(params, mine, places, arch, reach)
            bias = jnp.concatenate([own, _added(params, mine, memory, both, 0)], axis=-1)
            part = jax.lax.dynamic_slice_in_dim(qs, i * size, size, 3)
            return _product(part, ks, vs, bias, arch)

        out = jnp.moveaxis(jax.lax.map(block, jnp.arange(blocks)), 0, 3)
        out = out.reshape(*out.shape[:3], -1, out.shape[-1])[:, :, :, :length]
        return _tokens_first(out, q)

    return attend


def _blocked(params: dict, places: Places, arch: Arch, reach: int) -> Callable:
    """A block of queries at a time, against the keys that its past and its window can reach.

    The keys of a window lie near in the row, except for a shared prefix and a first token that all
    see. The keys of a causal query lie before it in the row: the blocks of one quarter of the row
    share an extent of keys, which computes 5/8 of the scores instead of half of them.
    """
    length = places.segments.shape[1]
    blocks = -(-length // BLOCK)
    size = -(-length // blocks)
    near = 0 if arch.leading or places.context is not None else reach
    span = min(length, size + near * (1 if arch.causal else 2)) if near else length
    each = -(-blocks // QUARTERS) if arch.causal and not near else blocks
    pad = ((0, 0), (0, blocks * size - length))
    queries = places.map(lambda x: jnp.pad(x, pad))
    part = jax.lax.dynamic_slice_in_dim

    def attend(q, k, v, sink=None):
        qs, ks, vs = _heads_first(jnp.pad(q, (*pad, (0, 0), (0, 0))), k, v, arch)

        def block(start, span):
            first = jnp.clip(start - near, 0, length - span) if near else 0
            mine, theirs = queries.at(start, size), places.at(first, span)
            bias = _added(params, mine, theirs, arch, reach)
            keys, values = (part(x, first, span, 2) for x in (ks, vs))
            return _product(part(qs, start, size, 3), keys, values, bias, arch, sink)

        def extent(first):
            last = min(first + each, blocks)
            seen = span if near else min(length, last * size)
            return jax.lax.map(lambda i: block(i * size, seen), jnp.arange(first, last))

        out = jnp.concatenate([extent(first) for first in range(0, blocks, each)])
        out = jnp.moveaxis(out, 0, 3)  # [B, K, G, blocks, size, H]
        out = out.reshape(*out.shape[:3], -1, out.shape[-1])[:, :, :, :length]
        return _tokens_first(out, q)

    return attend


def _heads_first(q, k, v, arch: Arch) -> tuple[jax.Array, jax.Array, jax.Array]:
    """q `[B, T, N, H]` as `[B, K, G, T, H]`, k and v `[B, S, K, H]` as `[B, K, S, H]`."""
    b, t, n, h = q.shape
    q = (q * arch.scale if _scaled(q) else q).reshape(b, t, arch.kv_heads, -1, h)
    return q.transpose(0, 2, 3, 1, 4), k.swapaxes(1, 2), v.swapaxes(1, 2)


def _tokens_first(out, q) -> jax.Array:
    """`[B, K, G, T, H]` as `[B, T, N, H]`, with the dtype of `q`."""
    return out.transpose(0, 3, 1, 2, 4).reshape(*q.shape[:3], -1).astype(q.dtype)


def _scaled(q) -> bool:
    """Whether the scale goes into the query; a bfloat16 query would be rounded once more."""
    return q.dtype == jnp.float32


def _product(
    q, k, v, bias, arch: Arch, sink=None, thin: Callable = lambda weights: weights
) -> jax.Array:
    """Softmax attention of heads: q `[B, K, G, T, H]`, k and v `[B, K, S, H]` -> float32 as q.

    Both products are plain batched matrix products `[B, K, G T, .]`, and so are the scores: left to
    einsum, or with an axis more, XLA on CPU copies the scores between them. The division comes
    last, on `H` features and not `S` keys. sink: scores `[N]` of no key, which take their share of
    the weights; thin: dropout of these.
    """
    b, kv, g, t, h = q.shape
    scores = _matmul(q.reshape(b, kv, g * t, h), k, 3)
    scores = scores if _scaled(q) else scores * arch.scale
    if arch.attention_softcap:
        scores = arch.attention_softcap * jnp.tanh(scores / arch.attention_softcap)
    scores = scores + _by_group(bias, kv, g)
    most = jax.lax.stop_gradient(jnp.max(scores, axis=-1, keepdims=True))
    lost: float | jax.Array = 0.0
    if sink is not None:
        sink = jnp.repeat(sink.astype(jnp.float32).reshape(kv, g), t, axis=1)[..., None]
        most = jnp.maximum(most, jax.lax.stop_gradient(sink))
        lost = jnp.exp(sink - most)
    weights = jnp.exp(scores - most)
    out = _matmul(thin(weights).astype(v.dtype), v, 2)
    out = out / (jnp.sum(weights, axis=-1, keepdims=True) + lost)
    return out.reshape(b, kv, g, t, -1)


def _by_group(bias: jax.Array, kv: int, g: int) -> jax.Array:
    """A bias `[B, 1 or N, T, S]` for `g` queries of each of `kv` keys: `[B, 1 or K, G T, S]`."""
    b, heads, t, s = bias.shape
    if heads == 1:
        return jnp.tile(bias, (1, 1, g, 1))
    return bias.reshape(b, kv, g * t, s)


def _matmul(a, b, axis: int) -> jax.Array:
    """`[B, K, X, C]` times `b` contracted over its `axis`, in float32."""
    dims = (((3,), (axis,)), ((0, 1), (0, 1)))
    return jax.lax.dot_general(a, b, dims, preferred_element_type=jnp.float32)


def _cudnn(params: dict, places: Places, arch: Arch, reach: int) -> Callable:
    """cuDNN's flash attention; it skips the keys after a query where `arch` is causal.

    Segments and window are a bias, made once for all layers in the dtype that cuDNN reads.
    """
    bias = jnp.maximum(_added(params, places, places, arch, reach), CUDNN_NEVER)
    bias = bias.astype(arch.dtype)

    def attend(q, k, v):
        return jax.nn.dot_product_attention(
            q,
            k,
            v,
            bias,
            scale=arch.scale,
            is_causal=arch.causal,
            implementation=CUDNN_IMPLEMENTATION,
        )

    return attend


def _flash(params: dict, places: Places, arch: Arch, reach: int) -> Callable:
    """The Pallas kernel for GPUs; gradients are those of cuDNN's kernel, or of XLA's."""
    from jaxpool.nn.flash import flash  # Pallas takes a while to import

    length = places.segments.shape[1]
    other = KERNELS["cudnn" if suits_cudnn(arch) and length >= CUDNN else xla(length)]
    run = partial(flash, arch=arch, reach=reach, interpret=INTERPRET)

    def differentiable(q, k, v, *places):
        return jax.vjp(other(params, Places(*places), arch, reach), q, k, v)

    attend = jax.custom_vjp(lambda q, k, v, segments, _: _by_shard(run)(q, k, v, segments))
    attend.defvjp(differentiable, lambda back, out: (*back(out), None, None))
    return lambda q, k, v: attend(q, k, v, places.segments, places.positions)


def _splash(params: dict, places: Places, arch: Arch, reach: int) -> Callable:
    run = _by_shard(partial(splash, arch=arch, reach=reach, interpret=INTERPRET))
    return lambda q, k, v: run(q, k, v, places.segments)


def _by_shard(run: Callable) -> Callable:
    """`run(q, k, v, segments)` of the rows and heads of each device."""
    mesh = jax.sharding.get_abstract_mesh()
    if mesh.empty:
        return run
    spec = jax.P("data", None, "model")
    specs = (spec, spec, spec, jax.P("data"))
    return jax.shard_map(run, in_specs=specs, out_specs=spec, check_vma=False)


KERNELS = {
    "dense": _dense,
    "blocked": _blocked,
    "cudnn": _cudnn,
    "flash": _flash,
    "splash": _splash,
}
