"""Quantized kernels: 8-bit weights with one scale for each output, multiplied in 8 bits or widened.

A kernel stays a leaf named `kernel`; the leaf beside it says its kind. `weight_scale`: the weights
alone are stored in 8 bits. `dynamic_scale`: so are the activations of each token, at run time, and
the product runs in 8 bits (int32 or float32 sums), as in LLM.int8() (arXiv 2208.07339) but without
its outliers, and FP8-LM (arXiv 2310.18313).
"""

from functools import partial

import jax
import jax.numpy as jnp

KINDS = {
    "int8": (jnp.int8, "dynamic_scale"),
    "int8_weight_only": (jnp.int8, "weight_scale"),
    "fp8": (jnp.float8_e4m3fn, "dynamic_scale"),
    "fp8_weight_only": (jnp.float8_e4m3fn, "weight_scale"),
}


def check(kind: str | None) -> None:
    """ValueError unless `kind` is None or one of `KINDS`."""
    if kind is not None and kind not in KINDS:
        raise ValueError(f"unknown quantization {kind!r}; known: {', '.join(KINDS)}")


def is_quantized(params: dict) -> bool:
    """Whether some kernel of a tree is in 8 bits."""
    return any(leaf.dtype.itemsize == 1 for leaf in jax.tree.leaves(params))


def quantize(params: dict, kind: str | None) -> dict:
    """The same tree with the dense kernels of the layers in 8 bits (None: as it is).

    Embeddings, experts, short convolutions and heads keep their dtype. One leaf at a time.
    """
    if kind is None:
        return params
    dtype, scale = KINDS[kind]

    def convert(tree: dict, name: str) -> dict:
        if name in ("conv", "experts", "mlps", "relative", "spans") or not isinstance(tree, dict):
            return tree
        if "kernel" not in tree:
            return {key: convert(part, key) for key, part in tree.items()}
        axes = (1, 2) if name == "out" else (1,)  # inputs, behind the layers
        kernel, scales = _to_bits(tree["kernel"], axes, dtype)
        return tree | {"kernel": kernel, scale: jnp.squeeze(scales, axes)}

    beside = {n: quantize(params[n], kind) for n in ("vision", "decoder") if n in params}
    return params | {"layers": convert(params.get("layers", {}), "layers")} | beside


@partial(jax.jit, static_argnums=(1, 2))
def _to_bits(x: jax.Array, axes: tuple[int, ...], dtype) -> tuple[jax.Array, jax.Array]:
    """x / scale in 8 bits and the float32 scale: the largest along `axes` fills the range."""
    whole = jnp.issubdtype(dtype, jnp.integer)
    most = float(jnp.iinfo(dtype).max if whole else jnp.finfo(dtype).max)
    x = x.astype(jnp.float32)
    largest = jnp.max(jnp.abs(x), axis=axes, keepdims=True)
    scale = jnp.where(largest > 0, largest / most, 1.0)
    y = x / scale
    return (jnp.round(y) if whole else y).astype(dtype), scale


def product(params: dict, x: jax.Array, contraction: str) -> jax.Array:
    """`einsum(contraction, x, kernel)` with the kernel of `params`, of whatever kind.

    float32, as products are summed; but on a GPU a plain kernel gives the dtype of `x`, since XLA
    writes the product to memory before it adds a bias: half the bytes (`tests/gpu_aot.py`).
    """
    kernel = params["kernel"]
    einsum = partial(jnp.einsum, contraction)
    if "dynamic_scale" in params:
        inputs, _, outputs = contraction.replace("->", ",").split(",")
        axes = tuple(i for i, axis in enumerate(inputs) if axis not in outputs)
        x, scale = _to_bits(x, axes, kernel.dtype)
        sums = jnp.int32 if kernel.dtype == jnp.int8 else jnp.float32
        out = einsum(x, kernel, preferred_element_type=sums).astype(jnp.float32)
        scale = jnp.expand_dims(jnp.squeeze(scale, axes), tuple(range(2, out.ndim)))
        return out * scale * params["dynamic_scale"]
    if "weight_scale" in params:
        out = einsum(x, kernel.astype(x.dtype), preferred_element_type=jnp.float32)
        return out * params["weight_scale"]
    device = jax.sharding.get_abstract_mesh().abstract_device
    kind = x.dtype if device is not None and device.platform == "gpu" else jnp.float32
    return einsum(x.astype(kernel.dtype), kernel, preferred_element_type=kind)
