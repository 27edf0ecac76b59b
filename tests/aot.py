"""Programs of real shapes to be compiled ahead of time, for chips that are not there."""

from functools import cache

import jax
import jax.numpy as jnp
from jax.sharding import Mesh

from jaxpool.engine.executor import Executor
from jaxpool.engine.sharding import leaf_sharding
from jaxpool.heads.steps import Normalize, Pool
from jaxpool.nn import params
from jaxpool.nn.arch import Arch, Rotary
from jaxpool.nn.attention import choose
from jaxpool.nn.leaf import is_leaf
from jaxpool.nn.records import DeltaNet, ShortConvolution


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


def hybrid(arch: Arch, mixer, attention: str, **more) -> Arch:
    """A decoder whose layers attend where `attention` has an "a"."""
    layers = tuple(kind == "a" for kind in attention)
    return arch.replace(mixer=mixer, attention_layers=layers, qk_norm="head", **more)


LFM2 = hybrid(
    decoder(65536, 16, 1024, 16, 8, 64, 4608), ShortConvolution(1024, 3), "ccaccaccacacacac"
)
QWEN3_5 = hybrid(
    decoder(248320, 24, 1024, 8, 2, 256, 3584),
    DeltaNet(16, 16, 128, 128, 4),
    "ddda" * 6,
    gated_attention=True,
    rotary=(Rotary(1e7, 64),),
)
# name: architecture, longest text, devices of the model axis
MODELS = {
    "BERT-base": (encoder(30522, 12, 768, 512), 512, 1),
    "BGE-M3": (encoder(250002, 24, 1024, 8194), 8192, 1),
    "Qwen3-Embedding-0.6B": (decoder(151669, 28, 1024, 16, 8, 128, 3072, qk_norm="head"), 8192, 1),
    "Qwen3-Embedding-8B": (decoder(151665, 36, 4096, 32, 8, 128, 12288, qk_norm="head"), 8192, 4),
    "LFM2-350M": (LFM2, 8192, 1),
    "Qwen3.5-0.8B": (QWEN3_5, 8192, 1),
    "Gemma-7B": (decoder(256000, 28, 3072, 16, 16, 256, 24576), 8192, 4),
}


def abstract(arch: Arch, place) -> dict:
    """Parameters in bfloat16 that are shapes and shardings only, `place(leaf)` each."""

    def make(leaf):
        return jax.ShapeDtypeStruct(leaf.shape, jnp.bfloat16, sharding=place(leaf))

    return jax.tree.map(make, params.abstract(arch), is_leaf=is_leaf)


@cache
def executor(model: str, mesh: Mesh, layers: int | None = None) -> Executor:
    """The programs of a model on a mesh, of other than its own number of `layers` if given."""
    arch, longest, _ = MODELS[model]
    arch = arch.replace(dtype="bfloat16", max_length=longest)
    arch = arch.replace(kernel=choose(mesh.devices.flat[0].platform, arch))
    arch = arch if layers is None else arch.replace(layers=layers)
    return Executor(abstract(arch, lambda leaf: leaf_sharding(leaf, mesh)), arch, mesh)


def lower(executor: Executor, rows: int, length: int) -> jax.stages.Lowered:
    """The program from token ids to normalized vectors."""
    steps = (Pool(("lasttoken" if executor.arch.causal else "cls",)), Normalize())
    return executor.lower(((steps,), rows, length))
