"""What each layer reads again of a token's embedding: Gemma 4's per-layer embeddings."""

import jax

from jaxpool.nn import layers
from jaxpool.nn.arch import Arch


def reread(
    params: dict, p: dict, x: jax.Array, embedded: jax.Array, arch: Arch, chosen: jax.Array | None
) -> jax.Array:
    """`[B, T, D]` after a layer's MLP with what it reads of the embeddings, all times its gain.

    params: the model's, whose norm of what is read all layers share; p: the layer's, which may
    read nothing; chosen: see `layers.chosen_adapters`.
    """
    if not arch.reread_dim:
        return x
    p = p["reread"]
    read = layers.dense(p["read"], embedded, "btd,df->btf", chosen)
    read = layers.arch_norm(params["read_norm"], read * arch.dim**-0.5, arch)
    gate = layers.ACTIVATIONS[arch.activation](layers.dense(p["gate"], x, "btd,df->btf", chosen))
    more = layers.dense(p["down"], gate * read, "btf,fd->btd", chosen)
    x = x + layers.arch_norm(p["norm"], more, arch)
    return x * p["gain"]["scale"].astype(x.dtype)
