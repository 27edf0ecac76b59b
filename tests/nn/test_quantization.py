"""Quantized kernels: the documented arithmetic, real vectors, meshes, and what is refused."""

import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
import pytest

import jaxpool
from jaxpool.nn.params import flatten
from jaxpool.nn.quantization import KINDS, product, quantize
from tests.conftest import MINILM
from tests.engine.test_engine import texts
from tests.tiny import EMBED, engine

TEXTS = ["a cat sat on the mat", "dogs chase cats", "interest rates rose", "the bank cut its rate"]
LARGEST = {"int8": 127.0, "fp8": 448.0}


def in_8_bits(x: np.ndarray, axes, kind: str) -> np.ndarray:
    """x rounded to 8 bits and back, in float64."""
    scale = np.abs(x).max(axes, keepdims=True) / LARGEST[kind]
    y = x / scale
    rounded = np.rint(y) if kind == "int8" else y.astype(ml_dtypes.float8_e4m3fn).astype(float)
    return rounded * scale


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    "name, contraction", [("query", "btd,dnh->btnh"), ("out", "btnh,nhd->btd")]
)
def test_product_is_that_of_the_rounded_operands(kind, name, contraction):
    rng = np.random.default_rng(0)
    kernel = rng.normal(size=(1, 24, 2, 8) if name == "query" else (1, 2, 8, 24))
    x = rng.normal(size=(2, 3, 24) if name == "query" else (2, 3, 2, 8))
    axes = (0,) if name == "query" else (0, 1)
    made = quantize({"layers": {name: {"kernel": jnp.asarray(kernel, jnp.float32)}}}, kind)
    got = product(
        jax.tree.map(lambda leaf: leaf[0], made["layers"][name]),
        jnp.asarray(x, jnp.float32),
        contraction,
    )
    base = kind.removesuffix("_weight_only")
    operand = x if "weight" in kind else in_8_bits(x, (2,) if name == "query" else (2, 3), base)
    want = np.einsum(contraction, operand, in_8_bits(kernel[0], axes, base))
    # A value on the edge between two 8-bit numbers may round either way in float32.
    np.testing.assert_allclose(got, want, atol=0.01 * np.abs(want).max())
    assert np.abs(got - want).mean() < 1e-3 * np.abs(want).mean()


@pytest.mark.parametrize("kind", KINDS)
def test_vectors_stay_close_to_float32(kind, minilm):
    want = minilm.model.encode(TEXTS)
    made = jaxpool.load(MINILM, quantization=kind)
    got = made.encode(TEXTS)
    assert 0.99 < np.min(np.sum(got * want, axis=1)) < 1.0
    kernels = {k: v for k, v in flatten(made.params["layers"]).items() if k.endswith(".kernel")}
    assert kernels and all(leaf.dtype.itemsize == 1 for leaf in kernels.values())


@pytest.mark.parametrize("kind", ["int8", "fp8_weight_only"])
def test_a_mesh_gives_the_vectors_of_one_device(kind):
    vectors = []
    for made in (engine(), engine(data=2, model=4)):
        made.executor.params = quantize(made.executor.params, kind)
        vectors.append(made.finish(made.start(EMBED, texts([5, 9, 30]))))
    up = made.executor.params["layers"]["mlp"]["up"]["kernel"]
    assert up.addressable_shards[0].data.shape[-1] == up.shape[-1] // 4
    np.testing.assert_allclose(*vectors, atol=1e-5)


def test_refusals(tmp_path):
    with pytest.raises(ValueError, match=r"unknown quantization 'int4'; known: int8, "):
        jaxpool.load(MINILM, quantization="int4")
    with pytest.raises(ValueError, match="is quantized; load it without quantization to export"):
        jaxpool.load(MINILM, quantization="int8").export(tmp_path)
