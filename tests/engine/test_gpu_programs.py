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
from jaxpool.nn.kernels import choose
from jaxpool.nn.leaf import is_leaf
from jaxpool.nn.transformer import forward

SIZES = {"vocab": 9, "layers": 4, "dim": 32, "heads": 4, "head_dim": 8, "mlp_dim": 64}
ROWS = 2
ARCHS = {
    "bidirectional": Arch(**SIZES, kv_heads=4, positions=8192),
    "grouped causal": Arch(**SIZES, kv_heads=2, causal=True, gated=True, rotary=(Rotary(1e4, 8),)),
    "windows": Arch(**SIZES, kv_heads=4, windows=(64, 0, 64, 0)),
    "alibi": Arch(**SIZES, kv_heads=4, alibi=True),
    "relative": Arch(**SIZES, kv_heads=4, relative_buckets=32),
}
FLASH = "@__gpu$xla.gpu.triton"
BIASED = ("alibi", "relative")
PLAIN = [name for name in ARCHS if name not in BIASED]


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


def lowered(arch: Arch, length: int, function=forward) -> str:
    """The forward, or a function of its arguments, as StableHLO for CUDA."""
    arch = arch.replace(dtype="bfloat16")
    arch = arch.replace(kernel=choose("gpu", arch))
    leaf = lambda leaf: jax.ShapeDtypeStruct(leaf.shape, jnp.bfloat16)  # noqa: E731
    tree = jax.tree.map(leaf, params.abstract(arch), is_leaf=is_leaf)
    tokens = jax.ShapeDtypeStruct((ROWS, length), jnp.int32)
    traced = jax.jit(function, static_argnums=2).trace(tree, Batch(*[tokens] * 3), arch)
    return traced.lower(lowering_platforms=("cuda",)).as_text()


def calls(text: str, name: str) -> list[str]:
    """The lines that call a kernel."""
    return [line for line in text.splitlines() if "custom_call" in line and name in line]


@pytest.mark.parametrize("length", [16, 128, 384, 8192])
@pytest.mark.parametrize("name", PLAIN)
def test_rows_are_the_pallas_kernels(gpu, name, length):
    text = lowered(ARCHS[name], length)
    assert len(calls(text, FLASH)) == len(set(ARCHS[name].windows) or {0})
    assert "__cudnn" not in text and f"{length}x{length}x" not in text


@pytest.mark.parametrize(
    "change", [{"head_dim": 256}, {"head_dim": 72}, {"attention_softcap": 3.0}]
)
def test_heads_and_caps_of_the_pallas_kernel(gpu, change):
    assert calls(lowered(ARCHS["bidirectional"].replace(**change), 384), FLASH)


@pytest.mark.parametrize("length", [128, 8192])
@pytest.mark.parametrize("name", BIASED)
def test_biases_are_cudnns(gpu, name, length):
    (call,) = calls(lowered(ARCHS[name], length), "__cudnn$fmhaScaleBiasSoftmax")
    assert "\\22mask_type\\22: \\22NO_MASK\\22" in call
    assert f"tensor<{ROWS}x4x{length}x{length}xbf16>" in call


@pytest.mark.parametrize(
    ("name", "mask"), [("bidirectional", "NO_MASK"), ("grouped causal", "CAUSAL")]
)
def test_gradients_are_cudnns(gpu, name, mask):
    loss = lambda *args: jnp.sum(forward(*args).astype(jnp.float32))  # noqa: E731
    text = lowered(ARCHS[name], 384, jax.grad(loss))
    for kernel in ("__cudnn$fmhaScaleBiasSoftmax(", "__cudnn$fmhaScaleBiasSoftmaxBackward("):
        (call,) = calls(text, kernel)
        assert f"\\22mask_type\\22: \\22{mask}\\22" in call
        assert f"tensor<{ROWS}x1x384x384xbf16>" in call
    assert not calls(text, FLASH)


@pytest.mark.parametrize("change", [{"head_dim": 256}, {"attention_softcap": 30.0}])
def test_biases_that_cudnn_cannot_are_xlas(gpu, change):
    assert "custom_call @__" not in lowered(ARCHS["alibi"].replace(**change), 384)


def test_short_biased_rows_are_xlas(gpu):
    assert "__cudnn" not in lowered(ARCHS["alibi"], 64)


@pytest.mark.parametrize("name", ["bidirectional", "grouped causal"])
def test_products_of_layers_leave_in_bfloat16(gpu, name):
    text = lowered(ARCHS[name], 384)
    products = re.findall(r"dot_general.*-> tensor<[\dx]+x(\w+)>", text)
    assert products and set(products) == {"bf16"}


def test_rounded_products_keep_the_vectors(gpu):
    arch = ARCHS["bidirectional"]
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
