"""What a GPU would be given, lowered without one; `tests/gpu_aot.py` compiles it as well."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AbstractDevice, AbstractMesh, AxisType

from jaxpool.engine.batch import Batch
from jaxpool.nn import params
from jaxpool.nn.arch import Arch, Rotary
from jaxpool.nn.attention import choose
from jaxpool.nn.transformer import forward

SIZES = {"vocab": 9, "layers": 4, "dim": 32, "heads": 4, "head_dim": 8, "mlp_dim": 64}
ROWS = 2
# name: architecture, cuDNN's mask, heads of the bias
ARCHS = {
    "bidirectional": (Arch(**SIZES, kv_heads=4, positions=8192), "NO_MASK", 1),
    "grouped causal": (
        Arch(**SIZES, kv_heads=2, causal=True, gated=True, rotary=(Rotary(1e4, 8),)),
        "CAUSAL",
        1,
    ),
    "windows": (Arch(**SIZES, kv_heads=4, windows=(64, 0, 64, 0)), "NO_MASK", 1),
    "alibi": (Arch(**SIZES, kv_heads=4, alibi=True), "NO_MASK", 4),
    "relative": (Arch(**SIZES, kv_heads=4, relative_buckets=32), "NO_MASK", 4),
}


@pytest.fixture
def gpu(monkeypatch):
    """The mesh of a GPU that is not there, in use."""
    module = "jax._src.cudnn.fused_attention_stablehlo"
    monkeypatch.setattr(f"{module}.check_cudnn_version", lambda: 91200)
    device = AbstractDevice("NVIDIA H100 80GB HBM3", None, "gpu")
    types = (AxisType.Auto,) * 2
    mesh = AbstractMesh((1, 1), ("data", "model"), types, abstract_device=device)
    with jax.sharding.use_abstract_mesh(mesh):
        yield


def lowered(arch: Arch, length: int) -> str:
    """The forward as StableHLO for CUDA."""
    arch = arch.replace(dtype="bfloat16")
    arch = arch.replace(kernel=choose("gpu", arch))
    leaf = lambda leaf: jax.ShapeDtypeStruct(leaf.shape, jnp.bfloat16)  # noqa: E731
    tree = jax.tree.map(leaf, params.abstract(arch), is_leaf=params.is_leaf)
    tokens = jax.ShapeDtypeStruct((ROWS, length), jnp.int32)
    traced = jax.jit(forward, static_argnums=2).trace(tree, Batch(*[tokens] * 3), arch)
    return traced.lower(lowering_platforms=("cuda",)).as_text()


@pytest.mark.parametrize("length", [128, 384, 8192])
@pytest.mark.parametrize("name", ARCHS)
def test_packed_rows_are_cudnns(gpu, name, length):
    arch, mask, heads = ARCHS[name]
    lines = lowered(arch, length).splitlines()
    calls = [line for line in lines if "__cudnn$fmhaScaleBiasSoftmax" in line]
    assert len(calls) == len(set(arch.windows) or {0})
    for call in calls:
        assert f"\\22mask_type\\22: \\22{mask}\\22" in call
        assert f"tensor<{ROWS}x{heads}x{length}x{length}xbf16>" in call


@pytest.mark.parametrize("change", [{"head_dim": 256}, {"attention_softcap": 30.0}])
def test_what_cudnn_cannot_is_xlas(gpu, change):
    arch = ARCHS["bidirectional"][0].replace(**change)
    assert "__cudnn" not in lowered(arch, 384)


def test_short_rows_are_xlas(gpu):
    assert "__cudnn" not in lowered(ARCHS["bidirectional"][0], 64)


@pytest.mark.parametrize("name", ["bidirectional", "grouped causal"])
def test_products_of_layers_leave_in_bfloat16(gpu, name):
    text = lowered(ARCHS[name][0], 384)
    products = re.findall(r"dot_general.*-> tensor<[\dx]+x(\w+)>", text)
    assert products and set(products) == {"bf16"}


def test_rounded_products_keep_the_vectors(gpu):
    arch = ARCHS["bidirectional"][0]
    rng = np.random.default_rng(0)
    tree = params.init(jax.random.key(0), params.abstract(arch))
    tree = jax.tree.map(lambda x: x + rng.normal(0, 0.1, x.shape).astype(np.float32), tree)
    tokens = rng.integers(0, arch.vocab, (ROWS, 40), np.int32)
    batch = Batch(tokens, np.ones_like(tokens), np.tile(np.arange(40, dtype=np.int32), (ROWS, 1)))
    half = jax.tree.map(lambda x: x.astype(jnp.bfloat16), tree)
    found = forward(half, batch, arch.replace(dtype="bfloat16"))
    assert found.dtype == jnp.bfloat16
    a, b = (np.asarray(x, np.float64) for x in (forward(tree, batch, arch), found))
    cosine = (a * b).sum(-1) / np.linalg.norm(a, axis=-1) / np.linalg.norm(b, axis=-1)
    assert cosine.min() > 0.999
