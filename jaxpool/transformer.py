"""The one forward: embed -> scan(block) -> norm. Data (`Arch`) picks the architecture."""

from functools import partial

import jax
import jax.numpy as jnp

from jaxpool import disentangled, layers, positions
from jaxpool.arch import Arch
from jaxpool.attention import attention
from jaxpool.experts import experts
from jaxpool.params import from_bits, unstack


def forward(params: dict, batch, arch: Arch, unroll: bool = False) -> jax.Array:
    """Hidden states `[B, T, D]` of a `batch.Batch`; pure, jit-able and differentiable.

    `unroll` runs the layers in a Python loop instead of `jax.lax.scan`: the same numbers, slower
    to compile, easier to look into. Positions of segment 0 (padding) hold arbitrary finite values.
    """
    if arch.disentangled:
        return disentangled.forward(params, batch, arch, unroll)
    x = layers.embed(params["embed"], batch, arch)
    if not arch.layers:  # a table of vectors alone
        return x
    block = _block(params, batch, arch)
    xs = (None if arch.shared_layers else params["layers"], *_layer_data(arch))
    steps = arch.layers // arch.period
    if steps < arch.layers:  # a second axis of one makes XLA on CPU copy all weights at every call
        xs = jax.tree.map(lambda leaf: leaf.reshape(steps, -1, *leaf.shape[1:]), xs)
    if unroll:
        for group in unstack(xs, steps):
            x, _ = block(x, group)
    else:
        x, _ = jax.lax.scan(block, x, xs, length=steps)
    return layers.arch_norm(params["norm"], x, arch) if arch.final_norm else x


def _layer_data(arch: Arch) -> tuple:
    """What differs between layers, scanned beside their weights: window, table, first or not."""
    windows = jnp.asarray(arch.windows, jnp.int32) if arch.windows else None
    tables = jnp.asarray(arch.rotary_layers, jnp.int32) if arch.rotary_layers else None
    first = None if arch.first_attention_norm else jnp.arange(arch.layers) == 0
    return windows, tables, first


def _block(params: dict, batch, arch: Arch):
    """The body of the scan, closed over what all layers share: one period of layers, often one."""
    tables = positions.rotary_tables(arch, batch)
    attend = None if arch.relative_layers else attention(params, batch, arch)
    chosen = layers.chosen_adapters(batch, arch)
    shared = unstack(params["layers"], 1)[0] if arch.shared_layers else None

    def layer(x, p, window, index, first):
        table = tables if tables is None else tables[0 if index is None else index]
        look = partial(attend or attention(p, batch, arch), window=window)
        mix = lambda y: _attention(p["attention"], y, table, look, arch, chosen)  # noqa: E731
        x = _residual(p, "attention", x, mix, arch, first)
        return _residual(p, "mlp", x, lambda y: _mlp(p, y, arch, chosen), arch, None)

    def block(x, group):
        if arch.period == 1:
            group = jax.tree.map(lambda leaf: leaf[None], group)
        p, *data = group
        for i, facts in enumerate(unstack(data, arch.period)):
            x = layer(x, from_bits(shared or _member(p, i, arch)), *facts)
        return x, None

    return block


def _member(group: dict, i: int, arch: Arch) -> dict:
    """The parameters of layer `i` of a period: its MLP or its experts lie among their own kind."""
    sparse = arch.sparse[: arch.period]
    kind, other = ("experts", "mlp") if sparse[i] else ("mlp", "experts")
    rank = sparse[:i].count(sparse[i])
    return {
        name: jax.tree.map(lambda leaf, at=rank if name == kind else i: leaf[at], part)
        for name, part in group.items()
        if name != other
    }


def _mlp(p: dict, x, arch: Arch, chosen) -> jax.Array:
    if "experts" in p:
        return experts(p["experts"], x, arch)
    return layers.mlp(p["mlp"], x, arch, chosen)


def _scaled(branch, factor: float, x) -> jax.Array:
    return factor * branch(x)


def _residual(p: dict, name: str, x, branch, arch: Arch, skip) -> jax.Array:
    """x + branch(x) with its norm before, after, around, or on the branch alone.

    Where the scalar `skip` is true the norm before is left out (ModernBERT's first layer).
    """
    before = lambda y: layers.arch_norm(p[f"{name}_norm"], y, arch)  # noqa: E731
    if arch.residual_scale != 1.0:
        branch = partial(_scaled, branch, arch.residual_scale)
    match arch.placement:
        case "post":
            y = branch(x)
            if f"{name}_inner_norm" in p:
                y = layers.arch_norm(p[f"{name}_inner_norm"], x + y, arch)
            return before(x + y)
        case "pre":
            y = before(x)
            return x + branch(y if skip is None else jnp.where(skip, x, y))
        case "sandwich":
            return x + layers.arch_norm(p[f"{name}_post_norm"], branch(before(x)), arch)
        case "branch":
            return x + before(branch(x))


def _attention(p: dict, x, table, attend, arch: Arch, chosen) -> jax.Array:
    q = layers.dense(p["query"], x, "btd,dnh->btnh", chosen)
    k = layers.dense(p["key"], x, "btd,dkh->btkh", chosen)
    v = layers.dense(p["value"], x, "btd,dkh->btkh", chosen)
    if arch.qk_norm != "none":
        q, k = _qk_norm(p["query_norm"], q, arch), _qk_norm(p["key_norm"], k, arch)
    if table is not None:
        interleaved = arch.rotary[0].interleaved
        q, k = (positions.rotate(y, table, interleaved) for y in (q, k))
    return layers.dense(p["out"], attend(q, k, v), "btnh,nhd->btd", chosen)


def _qk_norm(p: dict, x, arch: Arch) -> jax.Array:
    """RMSNorm of each head, RMSNorm or LayerNorm of all together; the arch's epsilon and offset."""
    if arch.qk_norm == "head":
        return layers.norm(p, x, "rms", arch.norm_eps, arch.norm_offset)
    kind = "layer" if arch.qk_norm == "layer" else "rms"
    flat = {name: leaf.reshape(-1) for name, leaf in p.items()}
    y = layers.norm(flat, x.reshape(*x.shape[:2], -1), kind, arch.norm_eps, arch.norm_offset)
    return y.reshape(x.shape)
