"""LoRA: low-rank adapters beside named kernels (arXiv 2106.09685), trained alone."""

import math
from collections.abc import Iterable

import jax
import jax.numpy as jnp

from jaxpool.nn.arch import Arch
from jaxpool.nn.params import flatten, unflatten

TRAINED = (r".*\.lora_[ab]\.",)  # patterns for `optimizers.divided`


def add_adapters(
    params: dict, arch: Arch, targets: Iterable[str], rank: int, alpha: float, key: jax.Array
) -> tuple[dict, Arch]:
    """Parameters and arch with one adapter, `alpha / rank` times A B, that changes nothing yet.

    targets: leaf names of kernels of the layers ("query", "value", "up"). A is drawn as PEFT draws
    it, B is zero. ValueError for a name that no kernel has, and where there are adapters already.
    """
    if arch.adapters:
        raise ValueError(f"LoRA: wanted a model without adapters, found {arch.adapters}")
    flat, found = flatten(params), {}
    targets = tuple(targets)
    for number, (name, kernel) in enumerate(sorted(flat.items())):
        module, _, leaf = name.rpartition(".")
        kind = module.rpartition(".")[2]
        if not (name.startswith("layers.") and leaf == "kernel" and kind in targets):
            continue
        layers, *axes = kernel.shape
        inputs, outputs = (axes[:-1], axes[-1:]) if kind == "out" else (axes[:1], axes[1:])
        bound = 1 / math.sqrt(math.prod(inputs))
        shape = (layers, 1, *inputs, rank)
        draw = jax.random.uniform(
            jax.random.fold_in(key, number), shape, minval=-bound, maxval=bound
        )
        found[f"{module}.lora_a.kernel"] = draw
        found[f"{module}.lora_b.kernel"] = jnp.zeros((layers, 1, rank, *outputs))
    kernels = {
        name.split(".")[-2] for name in flat if name.startswith("layers.") and "kernel" in name
    }
    if missing := sorted(set(targets) - {name.split(".")[-3] for name in found}):
        raise ValueError(f"LoRA: no kernel is called {missing}; there are {sorted(kernels)}")
    arch = arch.replace(adapters=1, adapter_rank=rank, adapter_scale=alpha / rank)
    return unflatten(flat | found), arch
