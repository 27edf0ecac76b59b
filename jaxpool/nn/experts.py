"""Mixture of experts: a router picks a few MLPs for each token (arXiv 1701.06538)."""

import jax
import jax.numpy as jnp

from jaxpool.nn import layers
from jaxpool.nn.arch import Arch

MLP = ("up", "gate", "down")


def experts(params: dict, x: jax.Array, arch: Arch) -> jax.Array:
    """`[B, T, D] -> [B, T, D]`: the weighted sum of each token's best experts; no token drops.

    CPUs run every expert on every token; accelerators only the chosen ones, as ragged products.
    """
    weights, chosen = route(params["router"], x, arch)
    kernels = {name: params[name]["kernel"] for name in MLP if name in params}
    out = jax.lax.platform_dependent(
        kernels, x, weights, chosen, cpu=every(arch), default=ragged(arch)
    )
    if "bias" in params["down"]:
        out = out + params["down"]["bias"].astype(jnp.float32)
    return out.astype(x.dtype)


def route(params: dict, x: jax.Array, arch: Arch) -> tuple[jax.Array, jax.Array]:
    """The weights (float32) and numbers of each token's experts, `[B, T, experts_per_token]`."""
    logits = layers.dense(params, x, "btd,dx->btx").astype(jnp.float32)
    weights, chosen = jax.lax.top_k(jax.nn.softmax(logits, axis=-1), arch.experts_per_token)
    if arch.norm_experts:
        weights = weights / jnp.sum(weights, axis=-1, keepdims=True)
    return weights, chosen


def every(arch: Arch):
    """All experts on all tokens, one expert after another; float32 sum."""

    def run(kernels, x, weights, chosen):
        each = jnp.moveaxis(jax.nn.one_hot(chosen, arch.experts) * weights[..., None], 2, 0)
        each = jnp.moveaxis(jnp.sum(each, axis=0), -1, 0)

        def step(total, expert):
            kernel, weight = expert
            y = layers.mlp({name: {"kernel": k} for name, k in kernel.items()}, x, arch)
            return total + weight[..., None] * y.astype(jnp.float32), None

        return jax.lax.scan(step, jnp.zeros(x.shape, jnp.float32), (kernels, each))[0]

    return run


def ragged(arch: Arch):
    """Each token's experts alone: tokens sorted by expert, one ragged product a matrix."""

    def run(kernels, x, weights, chosen):
        count = arch.experts_per_token
        order = jnp.argsort(chosen.reshape(-1))
        sizes = jnp.bincount(chosen.reshape(-1), length=arch.experts).astype(jnp.int32)

        def product(y, name):
            kernel = kernels[name]
            out = jax.lax.ragged_dot(
                y.astype(kernel.dtype), kernel, sizes, preferred_element_type=jnp.float32
            )
            return out.astype(x.dtype)

        act = layers.ACTIVATIONS[arch.activation]
        rows = x.reshape(-1, x.shape[-1])[order // count]
        up = product(rows, "up")
        hidden = act(product(rows, "gate")) * up if arch.gated else act(up)
        y = product(hidden, "down")[jnp.argsort(order)].reshape(*chosen.shape, -1)
        return jnp.einsum("btk,btkd->btd", weights, y.astype(jnp.float32))

    return run
