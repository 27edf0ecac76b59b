"""Beneath the API: pure functions of plain trees, for jit, grad, optax and Flax."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import jaxpool
from jaxpool.flax_module import Encoder, pretrained
from jaxpool.nn.arch import Arch
from jaxpool.nn.params import abstract, flatten, init, unflatten
from jaxpool.nn.stacked import stack, unstack

ARCH = Arch(
    vocab=40,
    layers=2,
    dim=16,
    heads=2,
    kv_heads=2,
    head_dim=8,
    mlp_dim=24,
    positions=32,
    embed_norm=True,
)


@pytest.fixture(scope="module")
def batch():
    return jax.tree.map(jnp.asarray, jaxpool.pad([[1, 2, 3], [4, 5, 6, 7, 8]]))


@pytest.fixture(scope="module")
def params():
    return init(jax.random.key(0), abstract(ARCH), std=0.1)


def test_gradients_flow_through_every_parameter(params, batch):
    def loss(params):
        hidden = jaxpool.forward(params, batch, ARCH)
        return jnp.sum(jnp.where((batch.segments > 0)[..., None], hidden, 0.0) ** 3)

    gradients = flatten(jax.jit(jax.grad(loss))(params))
    assert gradients.keys() == flatten(params).keys()
    for name, gradient in gradients.items():
        assert jnp.isfinite(gradient).all() and jnp.abs(gradient).max() > 0, name


def test_gradient_matches_finite_differences(params, batch):
    def loss(scale):
        scaled = jax.tree.map(lambda leaf: leaf * scale, params)
        return jnp.mean(jaxpool.forward(scaled, batch, ARCH)[0, 1] * jnp.arange(16.0))

    slope = jax.grad(loss)(1.0)
    numeric = (loss(1.0 + 1e-3) - loss(1.0 - 1e-3)) / 2e-3
    np.testing.assert_allclose(slope, numeric, rtol=5e-3)


def test_optax_trains_it(params, batch):
    optimizer = optax.adam(1e-2)

    def loss(params):
        first = jaxpool.forward(params, batch, ARCH)[:, 0]
        return jnp.sum((first[0] - first[1]) ** 2)

    @jax.jit
    def step(params, state):
        value, gradient = jax.value_and_grad(loss)(params)
        updates, state = optimizer.update(gradient, state)
        return optax.apply_updates(params, updates), state, value

    state, losses = optimizer.init(params), []
    with jax.numpy_dtype_promotion("standard"):  # optax promotes its own step counter
        for _ in range(10):
            params, state, value = step(params, state)
            losses.append(float(value))
    assert losses[-1] < losses[0] / 2


def test_flax_module_is_the_same_function(params, batch):
    module = Encoder(ARCH)
    variables = module.init(jax.random.key(1), batch)
    assert jax.tree.structure(variables["params"]) == jax.tree.structure(params)
    wanted = jaxpool.forward(params, batch, ARCH)
    np.testing.assert_array_equal(module.apply({"params": params}, batch), wanted)


def test_flax_module_carries_a_checkpoint(minilm, batch):
    model = minilm.model
    got = Encoder(model.arch).apply(pretrained(model), batch)
    np.testing.assert_allclose(got, jaxpool.forward(model.params, batch, model.arch), atol=1e-6)


def test_trees_flatten_and_stack(params):
    restored = unflatten(flatten(params))
    jax.tree.map(np.testing.assert_array_equal, restored, params)
    layers = stack(unstack(params["layers"], ARCH.layers))
    jax.tree.map(np.testing.assert_array_equal, layers, params["layers"])


def test_arch_refuses_contradictions():
    with pytest.raises(ValueError, match="heads .3. must be a multiple of Arch.kv_heads .2."):
        ARCH.replace(heads=3, kv_heads=2)
    with pytest.raises(ValueError, match="windows must have one entry a layer .2., got 3"):
        ARCH.replace(windows=(1, 2, 3))
    with pytest.raises(ValueError, match="Arch.heads must be at least 1, got 0"):
        ARCH.replace(heads=0)
