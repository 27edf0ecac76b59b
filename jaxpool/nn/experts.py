"""Mixture of experts: a router picks a few MLPs for each token (arXiv 1701.06538)."""

import jax
import jax.numpy as jnp

from jaxpool.nn import layers
from jaxpool.nn.arch import Arch
from jaxpool.nn.primitives import ACTIVATIONS, dense
from jaxpool.nn.records import Mixture

MLP = ("up", "gate", "down")


def experts(params: dict, x: jax.Array, arch: Arch) -> jax.Array:
    """`[B, T, D] -> [B, T, D]`: the weighted sum of each token's best experts; no token drops.

    CPUs run every expert on every token; accelerators only the chosen ones, as ragged products.
    """
    weights, chosen = route(params, x, arch)
    leaves = ("kernel", "bias") if arch.mixture.bias else ("kernel",)
    each = {name: {leaf: params[name][leaf] for leaf in leaves} for name in MLP if name in params}
    out = jax.lax.platform_dependent(
        each, x, weights, chosen, cpu=every(arch), default=ragged(arch)
    )
    if "bias" in params["down"] and not arch.mixture.bias:
        out = out + params["down"]["bias"].astype(jnp.float32)
    if "shared" in params:
        out = out + _shared(params, x, arch).astype(jnp.float32)
    return out.astype(x.dtype)


def _shared(params: dict, x: jax.Array, arch: Arch) -> jax.Array:
    """What the MLP beside the experts gives."""
    out = layers.mlp(params["shared"], x, arch)
    if "shared_gate" in params:
        out = out * jax.nn.sigmoid(dense(params["shared_gate"], x, "btd,d->bt"))[..., None]
    return out


def route(params: dict, x: jax.Array, arch: Arch) -> tuple[jax.Array, jax.Array]:
    """The weights (float32) and numbers of each token's experts, `[B, T, experts_per_token]`."""
    facts, count = arch.mixture, arch.experts_per_token
    logits = dense(params["router"], x.astype(jnp.float32), "btd,dx->btx")
    scores = jax.nn.sigmoid(logits) if facts.sigmoid else jax.nn.softmax(logits, axis=-1)
    ranks = scores
    if facts.corrected:
        ranks = scores + params["correction"]["bias"].astype(jnp.float32)
    _, chosen = jax.lax.top_k(_of_best_groups(ranks, facts), count)
    weights = jnp.take_along_axis(scores, chosen, axis=-1)
    if arch.norm_experts:
        weights = weights / (jnp.sum(weights, axis=-1, keepdims=True) + 1e-20)
    return weights * facts.scale, chosen


def _of_best_groups(scores: jax.Array, facts: Mixture) -> jax.Array:
    """Scores `[..., X]`, less those outside the groups whose leaders' scores sum to the most."""
    if facts.groups == facts.best_groups:
        return scores
    grouped = scores.reshape(*scores.shape[:-1], facts.groups, -1)
    totals = jnp.sum(jax.lax.top_k(grouped, facts.leaders)[0], axis=-1)
    best = jax.lax.top_k(totals, facts.best_groups)[1]
    among = jnp.any(jax.nn.one_hot(best, facts.groups, dtype=bool), axis=-2)
    return jnp.where(among[..., None], grouped, -jnp.inf).reshape(scores.shape)


def _activated(up: jax.Array, gate: jax.Array | None, arch: Arch) -> jax.Array:
    """The hidden features of an expert."""
    act, limit = ACTIVATIONS[arch.activation], arch.mixture.limit
    if gate is None:
        return act(up)
    if limit:
        gate, up = jnp.minimum(gate, limit), jnp.clip(up, -limit, limit) + 1
    return act(gate) * up


def every(arch: Arch):
    """All experts on all tokens, one expert after another; float32 sum."""

    def run(params, x, weights, chosen):
        each = jnp.moveaxis(jax.nn.one_hot(chosen, arch.experts) * weights[..., None], 2, 0)
        each = jnp.moveaxis(jnp.sum(each, axis=0), -1, 0)

        def step(total, expert):
            mine, weight = expert
            gate = dense(mine["gate"], x, "btd,dw->btw") if arch.gated else None
            hidden = _activated(dense(mine["up"], x, "btd,dw->btw"), gate, arch)
            y = dense(mine["down"], hidden, "btw,wd->btd")
            return total + weight[..., None] * y.astype(jnp.float32), None

        return jax.lax.scan(step, jnp.zeros(x.shape, jnp.float32), (params, each))[0]

    return run


def ragged(arch: Arch):
    """Each token's experts alone: tokens sorted by expert, one ragged product a matrix."""

    def run(params, x, weights, chosen):
        numbers = chosen.reshape(-1)
        order = jnp.argsort(numbers)
        sizes = jnp.bincount(numbers, length=arch.experts).astype(jnp.int32)

        def product(y, name):
            kernel = params[name]["kernel"]
            out = jax.lax.ragged_dot(
                y.astype(kernel.dtype), kernel, sizes, preferred_element_type=jnp.float32
            )
            if "bias" in params[name]:
                out = out + params[name]["bias"].astype(jnp.float32)[numbers[order]]
            return out.astype(x.dtype)

        rows = x.reshape(-1, x.shape[-1])[order // arch.experts_per_token]
        gate = product(rows, "gate") if arch.gated else None
        hidden = _activated(product(rows, "up"), gate, arch)
        y = product(hidden, "down")[jnp.argsort(order)].reshape(*chosen.shape, -1)
        return jnp.einsum("btk,btkd->btd", weights, y.astype(jnp.float32))

    return run
