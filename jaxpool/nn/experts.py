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

    CPUs run every expert on every token; accelerators only the chosen ones: TPUs as ragged
    products, for which XLA on GPU multiplies all tokens with all experts, so there in blocks.
    """
    weights, chosen = route(params, x, arch)
    leaves = ("kernel", "bias") if arch.mixture.bias else ("kernel",)
    each = {name: {leaf: params[name][leaf] for leaf in leaves} for name in MLP if name in params}
    out = jax.lax.platform_dependent(
        each, x, weights, chosen, cpu=every(arch), tpu=ragged(arch), default=blocked(arch)
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

        def product(name, y):
            kernel = params[name]["kernel"]
            return jax.lax.ragged_dot(
                y.astype(kernel.dtype), kernel, sizes, preferred_element_type=jnp.float32
            )

        rows = x.reshape(-1, x.shape[-1])[order // arch.experts_per_token]
        y = _expert(params, rows, product, numbers[order], arch)
        return _summed(weights, y[jnp.argsort(order)])

    return run


def blocked(arch: Arch):
    """The same in blocks of tokens of one expert, a product for each; there may be some to spare.

    A block has up to half of an expert's mean tokens, a power of two: smaller ones copy the
    weights of experts more often, larger ones compute more in vain.
    """

    def run(params, x, weights, chosen):
        numbers = chosen.reshape(-1)
        half = len(numbers) // (2 * arch.experts)
        size = max(16, 2 ** half.bit_length() // 2)
        count = (len(numbers) + min(len(numbers), arch.experts) * (size - 1)) // size
        order = jnp.argsort(numbers)
        sizes = jnp.bincount(numbers, length=arch.experts).astype(jnp.int32)
        blocks = -(-sizes // size)
        ends = jnp.cumsum(blocks)
        # Where each expert's tokens begin in blocks, less where they begin when sorted.
        shift = (ends - blocks) * size - (jnp.cumsum(sizes) - sizes)
        places = jnp.arange(len(numbers), dtype=jnp.int32) + shift[numbers[order]]
        tokens = jnp.zeros(count * size, jnp.int32).at[places].set(order // arch.experts_per_token)
        owners = jnp.searchsorted(ends, jnp.arange(count, dtype=jnp.int32), side="right")

        def product(name, y):
            kernel = params[name]["kernel"].at[owners].get(mode="clip")
            y = y.astype(kernel.dtype)
            return jnp.einsum("jtd,jdw->jtw", y, kernel, preferred_element_type=jnp.float32)

        rows = x.reshape(-1, x.shape[-1])[tokens].reshape(count, size, -1)
        y = _expert(params, rows, product, owners[:, None], arch)
        return _summed(weights, y.reshape(-1, x.shape[-1])[places[jnp.argsort(order)]])

    return run


def _expert(params: dict, rows: jax.Array, product, owners: jax.Array, arch: Arch) -> jax.Array:
    """The MLP of experts on rows of tokens: `product` of a matrix and these, `owners` of biases."""

    def biased(name: str, y: jax.Array) -> jax.Array:
        out = product(name, y)
        if "bias" in params[name]:
            out = out + params[name]["bias"].astype(jnp.float32).at[owners].get(mode="clip")
        return out.astype(rows.dtype)

    gate = biased("gate", rows) if arch.gated else None
    return biased("down", _activated(biased("up", rows), gate, arch))


def _summed(weights: jax.Array, y: jax.Array) -> jax.Array:
    """The weighted sum of what each token's experts gave, `[B T k, D]` in the order of tokens."""
    y = y.reshape(*weights.shape, -1).astype(jnp.float32)
    return jnp.einsum("btk,btkd->btd", weights, y)
