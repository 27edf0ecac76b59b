"""The branches of a layer, and how they join what passes between layers."""

from collections.abc import Callable
from functools import partial

import jax
import jax.numpy as jnp

from jaxpool.nn import latent, layers, leading, positions, spans
from jaxpool.nn.arch import Arch
from jaxpool.nn.segments import convolve, take


def cross(p: dict, x, read, arch: Arch, kept, keys) -> jax.Array:
    """Attention to the output of an encoder, in the layers of a decoder (`decoder.read`)."""
    return residual(p, "cross", x, read(p["cross"], kept, keys), arch) if read else x


def bottleneck(p: dict, x, arch: Arch) -> jax.Array:
    """The bottleneck after the MLP, where layers have one."""
    if not arch.bottleneck:
        return x
    plain = arch.replace(gated=False)
    return residual(p, "bottleneck", x, lambda y: layers.mlp(p["bottleneck"], y, plain), arch)


def _scaled(branch, factor: float | jax.Array, x) -> jax.Array:
    return factor * branch(x)


def residual(
    p: dict, name: str, x, branch, arch: Arch, skip=None, kept=None, read=None
) -> jax.Array:
    """x + branch(x) with its norm before, after, around, or on the branch alone.

    Where the scalar `skip` is true the norm before is left out (ModernBERT's first layer). kept:
    the tokens that the branch gives; read: what it reads in place of x.
    """
    stays = take(x, kept)
    before = lambda y: layers.arch_norm(p.get(f"{name}_norm", {}), y, arch)  # noqa: E731
    if arch.residual_scale != 1.0:
        branch = partial(_scaled, branch, arch.residual_scale)
    if arch.layer_scale:
        branch = partial(_scaled, branch, p[f"{name}_gain"]["scale"].astype(x.dtype))
    match arch.placement:
        case "post":
            y = branch(x)
            if f"{name}_inner_norm" in p:
                y = layers.arch_norm(p[f"{name}_inner_norm"], stays + y, arch)
            return before(stays + y)
        case "pre":
            y = before(x if read is None else read)
            return stays + branch(y if skip is None else jnp.where(skip, x, y))
        case "sandwich":
            return stays + layers.arch_norm(p[f"{name}_post_norm"], branch(before(x)), arch)
        case "branch":
            return stays + before(branch(x))


def attention(p: dict, x, batch, table, attend, arch: Arch, chosen, kept, memory=None) -> jax.Array:
    """What the tokens of a text take from one another by attention.

    table: of rotary positions, of queries and of keys; attend: see `attention.attention`; chosen:
    see `layers.chosen_adapters`; kept: the tokens that take; memory: vectors `[B, S, D]` that they
    take from too (`Arch.merged`), which have no positions.
    """
    mine = take(chosen, kept)
    if arch.latent:
        q, k, v = latent.project(p, x, arch.latent, chosen, kept)
    else:
        q = layers.dense(p["query"], take(x, kept), "btd,dnh->btnh", mine)
        k = layers.dense(p["key"], x, "btd,dkh->btkh", chosen)
        v = layers.dense(p["value"], x, "btd,dkh->btkh", chosen)
    if arch.qk_norm == "values":
        v = layers.norm({}, v, "rms", arch.norm_eps)
    steps: list[Callable] = [_normalized, partial(_turned, table=table, kept=kept)]
    for step in reversed(steps) if arch.qk_norm_last else steps:
        q, k = step(p, q, k, arch)
    if memory is not None:
        k, v = _beside(p, k, v, memory, arch)
    mixed = attend(q, k, v, sink=p["sink"]["bias"] if arch.sinks else None)
    if arch.value_taps:
        kernel = {"kernel": p["conv"]["kernel"][..., None]}
        mixed = mixed + take(convolve(kernel, v, batch.segments, False), kept)
    if arch.leading:
        mixed = leading.replace(p["leading"], mixed, x, batch, arch, chosen, kept)
    if arch.gated_attention:
        gate = layers.dense(p["gate"], take(x, kept), "btd,dnh->btnh", mine)
        mixed = mixed * jax.nn.sigmoid(gate)
    if arch.sub_norm:
        mixed = _together(p["sub_norm"], mixed, arch.norm, arch)
    out = layers.dense(p["out"], mixed, "btnh,nhd->btd", mine)
    return out + spans.mix(p["spans"], x, q, batch, chosen, kept) if arch.spans else out


def _beside(p: dict, k, v, memory, arch: Arch) -> tuple[jax.Array, jax.Array]:
    """Keys and values of a row, and behind them those of a memory: the keys do not turn."""
    more, values = (layers.dense(p[name], memory, "bsd,dkh->bskh") for name in ("key", "value"))
    more = more if arch.qk_norm == "none" else _qk_norm(p["key_norm"], more, arch)
    return jnp.concatenate([k, more], axis=1), jnp.concatenate([v, values], axis=1)


def _turned(p: dict, q, k, arch: Arch, table, kept) -> tuple[jax.Array, jax.Array]:
    if table is None:
        return q, k
    law = arch.rotary[0]
    mine, turn = table
    mine = jnp.stack([take(part, kept) for part in mine])
    return positions.rotate(q, mine, law), positions.rotate(k, turn, law)


def _normalized(p: dict, q, k, arch: Arch) -> tuple[jax.Array, jax.Array]:
    if arch.qk_norm == "none":
        return q, k
    return _qk_norm(p["query_norm"], q, arch), _qk_norm(p["key_norm"], k, arch)


def _qk_norm(p: dict, x, arch: Arch) -> jax.Array:
    """RMSNorm or LayerNorm of each head or of all together; the arch's epsilon and offset.

    Heads share a scale ("head", "head_layer", "values") or have one each ("heads_layer"); of those
    of all together only "layer" has a bias.
    """
    kind = "layer" if arch.qk_norm.endswith("layer") else "rms"
    if arch.qk_norm == "values" or arch.qk_norm.startswith("head"):
        return layers.norm(p, x, kind, arch.norm_eps, arch.norm_offset)
    return _together(p, x, kind, arch)


def _together(p: dict, x, kind: str, arch: Arch) -> jax.Array:
    """The norm of the features of all heads `[B, T, N, H]`."""
    flat = {name: leaf.reshape(-1) for name, leaf in p.items()}
    y = layers.norm(flat, x.reshape(*x.shape[:2], -1), kind, arch.norm_eps, arch.norm_offset)
    return y.reshape(x.shape)
