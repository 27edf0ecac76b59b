"""Compile real shapes for real TPU topologies, without a TPU (`make test-tpu-aot`, needs libtpu).

Not part of the test suite. For each model, topology and bucket: XLA's memory account, its cost
estimate, and the promise that no weight is gathered over the mesh.
"""

import re
import sys
import time

import jax
import jax.numpy as jnp
from jax.experimental import topologies
from jax.sharding import AxisType, Mesh

from jaxpool import params
from jaxpool.arch import Arch, Rotary
from jaxpool.attention import backend, choose
from jaxpool.compile import Executor, memory
from jaxpool.engine import TOKEN_BUDGET
from jaxpool.heads import Normalize, Pool
from jaxpool.params import flatten, is_leaf
from jaxpool.planner import ladder, shapes
from jaxpool.sharding import leaf_sharding

TOPOLOGIES = ("v5e:2x2", "v6e:2x2", "v5p:2x2x1")


def encoder(vocab: int, layers: int, dim: int, positions: int) -> Arch:
    """BERT and XLM-R."""
    heads = dim // 64
    sizes = {"vocab": vocab, "layers": layers, "dim": dim, "heads": heads, "kv_heads": heads}
    return Arch(
        **sizes, head_dim=64, mlp_dim=4 * dim, positions=positions, token_types=1, embed_norm=True
    )


def decoder(vocab: int, layers: int, dim: int, heads: int, kv: int, head: int, mlp: int, **more):
    """Qwen3 and Gemma."""
    sizes = {"vocab": vocab, "layers": layers, "dim": dim, "heads": heads, "kv_heads": kv}
    plain = {"qkv_bias": False, "out_bias": False, "mlp_bias": False, "norm_bias": False}
    turn = {"rotary": (Rotary(1e6, head),), "causal": True, "gated": True, "activation": "silu"}
    norms = {"norm": "rms", "placement": "pre", "final_norm": True, "norm_eps": 1e-6}
    return Arch(**sizes, head_dim=head, mlp_dim=mlp, **plain, **turn, **norms, **more)


# name: architecture, longest text, devices of the model axis
MODELS = {
    "BERT-base": (encoder(30522, 12, 768, 512), 512, 1),
    "BGE-M3": (encoder(250002, 24, 1024, 8194), 8192, 1),
    "Qwen3-Embedding-0.6B": (decoder(151669, 28, 1024, 16, 8, 128, 3072, qk_norm="head"), 8192, 1),
    "Qwen3-Embedding-8B": (decoder(151665, 36, 4096, 32, 8, 128, 12288, qk_norm="head"), 8192, 4),
    "Gemma-7B": (decoder(256000, 28, 3072, 16, 16, 256, 24576), 8192, 4),
}


def abstract(arch: Arch, mesh: Mesh) -> dict:
    """Parameters in bfloat16 that are shapes and shardings only."""

    def make(leaf):
        sharding = leaf_sharding(leaf, mesh)
        return jax.ShapeDtypeStruct(leaf.shape, jnp.bfloat16, sharding=sharding)

    return jax.tree.map(make, params.abstract(arch), is_leaf=is_leaf)


def gathered_weights(text: str, tree: dict, model: int) -> set[tuple[int, ...]]:
    """The shapes of all-gathers that are those of a whole weight."""
    if model == 1:
        return set()
    found = re.findall(r"= \(?bf16\[([\d,]+)\][^=]*? all-gather", text)
    weights = {leaf.shape[1:] for leaf in flatten(tree["layers"]).values() if len(leaf.shape) > 2}
    return {tuple(map(int, shape.split(","))) for shape in found} & weights


def check(name: str, topology: str, few: bool) -> None:
    """Compile every bucket of a model for a topology; `few`: the first and the last only."""
    arch, longest, model = MODELS[name]
    devices = topologies.get_topology_desc(platform="tpu", topology_name=topology).devices
    arch = arch.replace(dtype="bfloat16", max_length=longest)
    arch = arch.replace(kernel=choose("tpu", arch))
    mesh = jax.make_mesh(
        (len(devices) // model, model),
        ("data", "model"),
        axis_types=(AxisType.Auto,) * 2,
        devices=devices,
    )
    executor = Executor(abstract(arch, mesh), arch, mesh)
    buckets = shapes(ladder(longest), TOKEN_BUDGET["tpu"], mesh.shape["data"])
    steps = (Pool(("lasttoken" if arch.causal else "cls",)), Normalize())
    for rows, length in (buckets[0], buckets[-1]) if few else buckets:
        start = time.perf_counter()
        compiled = executor.lower(((steps,), rows, length)).compile()
        seconds = time.perf_counter() - start
        account, cost = memory(compiled), compiled.cost_analysis() or {}
        bad = gathered_weights(compiled.as_text(), executor.params, model)
        assert not bad, f"{name} on {topology}: all-gather of weights {sorted(bad)}"
        print(
            f"{name:21} {topology:9} {rows:4} x {length:<5} {backend(arch, length):8}"
            f" arguments {account['argument'] / 2**30:6.2f} GiB, temporary "
            f"{account['temp'] / 2**30:6.2f} GiB, {cost.get('flops', 0) / 1e12:8.3f} TFLOP each,"
            f" estimated {cost.get('optimal_seconds', 0) * 1e3:8.2f} ms, compiled {seconds:.0f} s",
            flush=True,
        )


if __name__ == "__main__":
    options = sys.argv[1:]
    wanted = [name for name in options if not name.startswith("-")] or list(MODELS)
    for model_name in wanted:
        for place in TOPOLOGIES:
            check(model_name, place, "--few" in options)
