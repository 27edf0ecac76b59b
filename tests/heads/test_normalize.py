"""L2 normalization where a place holds no text: its gradient is a number."""

import jax
import jax.numpy as jnp
import numpy as np

from jaxpool.heads.steps import unit


def test_length_and_gradient():
    x = np.random.default_rng(0).standard_normal((5, 8)).astype(np.float32)
    x[2] = 0.0
    wanted = x / np.maximum(np.linalg.norm(x, axis=-1, keepdims=True), 1e-12)
    np.testing.assert_allclose(unit(jnp.asarray(x)), wanted, rtol=1e-6)
    toward = np.ones_like(x)

    def cosine(x):
        return jnp.sum(unit(x) * toward)

    gradient = np.asarray(jax.grad(cosine)(jnp.asarray(x)))
    assert np.isfinite(gradient).all()
    there = np.arange(5) != 2
    along = (toward - wanted * np.sum(toward * wanted, -1, keepdims=True))[there]
    length = np.linalg.norm(x[there], axis=-1, keepdims=True)
    np.testing.assert_allclose(gradient[there], along / length, rtol=1e-4, atol=1e-6)
