"""Token vectors that attend to learned latent vectors before they are pooled."""

from dataclasses import dataclass

import jax
import jax.numpy as jnp

from jaxpool.nn.leaf import Leaf
from jaxpool.nn.primitives import ACTIVATIONS, dense, norm


@dataclass(frozen=True)
class LatentAttention:
    """Each token attends to the latents, then passes an MLP; both are added (arXiv 2405.17428).

    The latents are keys and values; the gate of the MLP is a GELU.
    """

    name: str
    dim: int
    latents: int
    heads: int
    head_dim: int
    mlp_dim: int
    eps: float = 1e-5

    def leaves(self):
        """The parameters of the step."""
        d, n, h, f = self.dim, self.heads, self.head_dim, self.mlp_dim
        scale = {name: Leaf("D", (d,)) for name in ("scale", "bias")}
        into = {"kernel": Leaf("D N H", (d, n, h))}
        hidden = {"kernel": Leaf("D F", (d, f)), "bias": Leaf("F", (f,))}
        return {
            "embedding": Leaf("U D", (self.latents, d)),
            **dict.fromkeys(("norm", "latent_norm", "mlp_norm"), scale),
            **dict.fromkeys(("query", "key", "value"), into),
            "out": {"kernel": Leaf("N H D", (n, h, d))},
            **dict.fromkeys(("up", "gate"), hidden),
            "down": {"kernel": Leaf("F D", (f, d)), "bias": Leaf("D", (d,))},
        }

    def __call__(self, params, x, context):
        """`[B, T, D] -> [B, T, D]`."""
        params = jax.tree.map(lambda leaf: leaf.astype(jnp.float32), params)
        latents = norm(params["latent_norm"], params["embedding"], "layer", self.eps)
        key, value = (dense(params[name], latents, "ud,dnh->unh") for name in ("key", "value"))
        asked = norm(params["norm"], x, "layer", self.eps)
        query = dense(params["query"], asked, "btd,dnh->btnh")
        scores = jnp.einsum("btnh,unh->bntu", query, key) * self.head_dim**-0.5
        mixed = jnp.einsum("bntu,unh->btnh", jax.nn.softmax(scores, axis=-1), value)
        x = x + dense(params["out"], mixed, "btnh,nhd->btd")
        y = norm(params["mlp_norm"], x, "layer", self.eps)
        gate = ACTIVATIONS["gelu"](dense(params["gate"], y, "btd,df->btf"))
        hidden = dense(params["up"], y, "btd,df->btf") * gate
        return x + dense(params["down"], hidden, "btf,fd->btd")
