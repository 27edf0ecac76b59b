"""The forward in training: dropout by a key, layers computed again, FSDP."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxpool.engine.sharding import make_mesh, rows_sharding
from jaxpool.nn import params as parameters
from jaxpool.nn.arch import Arch, Disentangled, Rotary
from jaxpool.nn.dropout import Dropout
from jaxpool.nn.transformer import forward
from jaxpool.train.sharding import check_mesh, fsdp_shardings
from tests.tiny import BERT, SIZES
from tests.train.test_gradcache import batch, close

WINDOWS = Arch(
    **SIZES,
    mlp_dim=64,
    causal=True,
    gated=True,
    placement="pre",
    windows=(3, 0),
    rotary=(Rotary(1e4, 4),),
    max_length=64,
)
DEBERTA = Arch(**SIZES, mlp_dim=64, disentangled=Disentangled(span=8), max_length=64)
ARCHS = {"bert": BERT, "windows": WINDOWS, "deberta": DEBERTA}
SIDE = batch(4, 16)


def weights(arch):
    return parameters.init(jax.random.key(1), parameters.abstract(arch), 0.1)


@pytest.mark.parametrize(
    "name", ["windows", "deberta", pytest.param("bert", marks=pytest.mark.slow)]
)
def test_dropout(name):
    arch, key = ARCHS[name], jax.random.key(0)
    params = weights(arch)

    jitted = jax.jit(forward, static_argnames=("arch", "dropout", "unroll", "remat"))
    plain = jitted(params, SIDE, arch=arch)
    for rates in (Dropout(0.3, 0.0), Dropout(0.0, 0.3)):
        one = jitted(params, SIDE, arch=arch, dropout=rates, key=key)
        other = jitted(params, SIDE, arch=arch, dropout=rates, key=jax.random.key(1))
        again = jitted(params, SIDE, arch=arch, dropout=rates, key=key, unroll=True)
        # The same key gives the same masks, scanned or unrolled; another key others.
        np.testing.assert_allclose(one, again, atol=2e-5)
        assert np.abs(one - plain).max() > 1e-3 and np.abs(one - other).max() > 1e-3


def test_dropped_share_and_scale():
    from jaxpool.nn.dropout import drop

    x = jnp.ones((100, 100))
    dropped = drop(x, 0.25, jax.random.key(0))
    assert abs(float(jnp.mean(dropped == 0)) - 0.25) < 0.02
    np.testing.assert_allclose(dropped[dropped > 0], 1 / 0.75, rtol=1e-6)


def squares(params, arch, **options):
    hidden = forward(params, SIDE, arch, **options)
    return jnp.mean(jnp.square(hidden) * (SIDE.segments > 0)[..., None].astype(jnp.float32))


@pytest.mark.parametrize("name", ["deberta", pytest.param("windows", marks=pytest.mark.slow)])
def test_remat_changes_no_gradient(name):
    arch = ARCHS[name]
    options = {"dropout": Dropout(0.1, 0.1), "key": jax.random.key(2)}
    grads = [
        jax.jit(jax.grad(lambda p, r=remat: squares(p, arch, remat=r, **options)))(weights(arch))
        for remat in ("none", "products", "inputs")
    ]
    for other in grads[1:]:
        close(other, grads[0])


@pytest.mark.parametrize("shape", [pytest.param((8, 1), marks=pytest.mark.slow), (2, 4)])
def test_fsdp(shape):
    """The plain gradient, from parameters of which each device has its part and no more."""
    data, model = shape
    mesh, params = make_mesh(model, data), weights(BERT)
    plain = jax.jit(jax.grad(lambda p, b: jnp.mean(jnp.square(forward(p, b, BERT)))))
    side = batch(8, 16)
    wanted = plain(params, side)
    shardings = fsdp_shardings(parameters.abstract(BERT), mesh)
    placed = jax.device_put(params, shardings)
    kernel = placed["layers"]["mlp"]["up"]["kernel"]
    assert kernel.addressable_shards[0].data.size * 8 == kernel.size
    with jax.set_mesh(mesh):
        step = jax.jit(plain, out_shardings=shardings)
        close(step(placed, jax.device_put(side, rows_sharding(mesh))), wanted)


@pytest.mark.parametrize(
    "changes, shape, message",
    [
        ({"mlp_dim": 66}, (1, 4), "model=4 wanted to divide F of layers.mlp.*F=66"),
        ({"heads": 3, "kv_heads": 3}, (1, 4), "model=4 wanted to divide N of layers.attention"),
        ({"heads": 8, "kv_heads": 2}, (2, 4), None),  # few key heads may be whole
        ({}, (3, 1), "fsdp over data=3 wanted to divide an axis of embed"),
        ({}, (2, 4), None),
    ],
)
def test_a_mesh_that_does_not_divide(changes, shape, message):
    leaves = parameters.abstract(BERT.replace(**changes))
    data, model = shape
    mesh = make_mesh(model, data)
    if message is None:
        return check_mesh(leaves, mesh, fsdp=True)
    with pytest.raises(ValueError, match=message):
        check_mesh(leaves, mesh, fsdp=True)
