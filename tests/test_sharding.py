"""Eight virtual devices as any mesh give the vectors of one; no weight is gathered."""

import re

import numpy as np
import pytest

from jaxpool.params import flatten
from jaxpool.sharding import make_mesh
from tests.test_engine import texts
from tests.tiny import BERT, EMBED, SIZES, engine

DECODER = BERT.replace(
    norm="rms", norm_bias=False, placement="pre", final_norm=True, causal=True, positions=0,
    gated=True, activation="silu", qkv_bias=False, out_bias=False, mlp_bias=False,
    kv_heads=2, qk_norm="head", embed_norm=False,
)  # fmt: skip
LENGTHS = [5, 16, 9, 30, 48, 12, 7, 31, 2, 33, 40]


@pytest.fixture(scope="module", params=[BERT, DECODER], ids=["encoder", "decoder"])
def arch(request):
    return request.param


@pytest.fixture(scope="module")
def single(arch):
    """The vectors of one device."""
    one = engine(arch)
    return one.finish(one.start(EMBED, texts(LENGTHS)))


@pytest.mark.parametrize("data, model", [(8, 1), (4, 2), (2, 4), (1, 8)])
def test_meshes_agree_with_one_device(arch, single, data, model):
    meshed = engine(arch, data, model)
    got = meshed.finish(meshed.start(EMBED, texts(LENGTHS)))
    np.testing.assert_allclose(got, single, atol=1e-5)
    up = flatten(meshed.executor.params)["layers.mlp.up.kernel"]
    assert up.addressable_shards[0].data.shape[-1] == up.shape[-1] // model
    program = meshed.executor.compiled(meshed.keys([EMBED])[0]).as_text()
    gathered = re.findall(r"= f32\[([\d,]+)\]\S* all-gather", program)
    kernels = {tuple(leaf.shape[1:]) for leaf in flatten(meshed.executor.params["layers"]).values()}
    assert not {tuple(map(int, shape.split(","))) for shape in gathered} & kernels


def test_a_mesh_beyond_the_devices_is_refused():
    with pytest.raises(ValueError, match="data_parallel_size=4 x tensor_parallel_size=4 needs 16"):
        make_mesh(4, 4)
    assert SIZES["heads"] % 8 == 0
