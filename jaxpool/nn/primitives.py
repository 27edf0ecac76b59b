"""What layers and heads are made of, whatever the architecture: dense, norm, activations.

All take parameters (a dict with Flax leaf names) first, then activations. Matrix products run in
the dtype of the kernel and accumulate in float32; the result has the dtype of the activations. On
CPU that makes bfloat16 weights pay; on accelerators both are bfloat16.
"""

import jax
import jax.numpy as jnp

from jaxpool.nn.quantization import product

ACTIVATIONS = {
    # As torch writes it; jax.nn.gelu goes through erfc, which costs twice as much.
    "gelu": lambda x: 0.5 * x * (1.0 + jax.lax.erf(x * 0.5**0.5)),
    "gelu_tanh": lambda x: jax.nn.gelu(x, approximate=True),
    "gelu_quick": lambda x: x * jax.nn.sigmoid(1.702 * x),
    "relu": jax.nn.relu,
    "relu2": lambda x: jnp.square(jax.nn.relu(x)),
    "silu": jax.nn.silu,
    "mish": jax.nn.mish,
    "elu": jax.nn.elu,
    "leaky_relu": jax.nn.leaky_relu,
    "softplus": jax.nn.softplus,
    "tanh": jnp.tanh,
    "sigmoid": jax.nn.sigmoid,
    "identity": lambda x: x,
    "log1p_relu": lambda x: jnp.log1p(jax.nn.relu(x)),
}


TORCH_ACTIVATIONS = {  # the classes of torch.nn that checkpoints name
    "ELU": "elu",
    "GELU": "gelu",
    "Identity": "identity",
    "LeakyReLU": "leaky_relu",
    "Mish": "mish",
    "ReLU": "relu",
    "SiLU": "silu",
    "Sigmoid": "sigmoid",
    "Softplus": "softplus",
    "Tanh": "tanh",
}


def dense(params: dict, x: jax.Array, contraction: str, chosen=None) -> jax.Array:
    """`einsum(contraction, x, kernel)` plus the bias and the adapter where there are some.

    chosen: the weights `[B, T, q]` of each token's adapters (see `chosen_adapters`).
    """
    blocks = params.get("blocks")
    out = product(params, x, contraction) if blocks is None else _blocks(blocks, x, contraction)
    if "lora_a" in params:
        out = out + _low_rank(params, x, contraction, chosen).astype(out.dtype)
    if "bias" in params:
        out = out + params["bias"].astype(out.dtype)
    return out.astype(x.dtype)


def _blocks(blocks: jax.Array, x: jax.Array, contraction: str) -> jax.Array:
    """The product with a kernel of blocks on its diagonal, `[g, ...]`: groups of features alone."""
    inputs, kernel, outputs = contraction.replace("->", ",").split(",")
    into = next(i for i, axis in enumerate(inputs) if axis in kernel)
    out = next(i for i, axis in enumerate(outputs) if axis not in inputs)
    x = x.reshape(*x.shape[:into], len(blocks), -1, *x.shape[into + 1 :])
    # The groups go first: XLA on CPU has no product in bfloat16 with them in the middle.
    x = jnp.moveaxis(x, into, 0).astype(blocks.dtype)
    subscripts = f"g{inputs},g{kernel}->g{outputs}"
    y = jnp.einsum(subscripts, x, blocks, preferred_element_type=jnp.float32)
    y = jnp.moveaxis(y, 0, out)
    return y.reshape(*y.shape[:out], -1, *y.shape[out + 2 :])


def _low_rank(params: dict, x: jax.Array, contraction: str, chosen: jax.Array) -> jax.Array:
    """x A B of each token's own adapter (arXiv 2106.09685), in float32."""
    inputs, kernel, outputs = contraction.replace("->", ",").split(",")
    into = "".join(axis for axis in kernel if axis in inputs)
    out = "".join(axis for axis in kernel if axis not in inputs)
    a, b = params["lora_a"]["kernel"], params["lora_b"]["kernel"]
    low = jnp.einsum(
        f"{inputs},q{into}r->btqr", x.astype(a.dtype), a, preferred_element_type=jnp.float32
    )
    low = (low * chosen[..., None]).astype(b.dtype)
    return jnp.einsum(f"btqr,qr{out}->{outputs}", low, b, preferred_element_type=jnp.float32)


def norm(params: dict, x: jax.Array, kind: str, eps: float, offset: float = 0.0) -> jax.Array:
    """LayerNorm or RMSNorm over the last axis, in float32; without parameters, just the division.

    `offset` is added to the stored scale (Gemma keeps scale - 1). "affine" multiplies and adds
    without a division (MobileBERT).
    """
    y = x.astype(jnp.float32)
    if kind == "layer":
        y = y - jnp.mean(y, axis=-1, keepdims=True)
    if kind != "affine":
        y = y * jax.lax.rsqrt(jnp.mean(jnp.square(y), axis=-1, keepdims=True) + eps)
    if "scale" in params:
        y = y * (params["scale"].astype(jnp.float32) + offset)
    if "bias" in params:
        y = y + params["bias"].astype(jnp.float32)
    return y.astype(x.dtype)
