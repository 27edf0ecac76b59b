"""Mixture of experts: the two ways to compute it agree, and layers may alternate."""

import jax
import numpy as np
import pytest

from jaxpool.nn import experts
from jaxpool.nn.arch import Arch

SIZES = dict(vocab=50, layers=4, dim=12, heads=2, kv_heads=2, head_dim=6, mlp_dim=20)


@pytest.mark.parametrize("gated", [False, True])
def test_ragged_products_equal_every_expert(gated):
    arch = Arch(
        **SIZES, experts=5, experts_per_token=2, expert_dim=8, gated=gated, norm_experts=True
    )
    keys = jax.random.split(jax.random.key(0), 5)
    kernels = {
        "up": jax.random.normal(keys[0], (5, 12, 8)),
        "down": jax.random.normal(keys[1], (5, 8, 12)),
    }
    if gated:
        kernels["gate"] = jax.random.normal(keys[2], (5, 12, 8))
    x = jax.random.normal(keys[3], (2, 7, 12))
    routed = experts.route({"kernel": jax.random.normal(keys[4], (12, 5))}, x, arch)
    ways = [way(arch)(kernels, x, *routed) for way in (experts.every, experts.ragged)]
    np.testing.assert_allclose(*ways, atol=2e-5)


def test_period_of_the_kinds_of_layers():
    sparse = dict(experts=2, experts_per_token=1)
    assert Arch(**SIZES).period == 1
    assert Arch(**SIZES, **sparse).period == 1
    assert Arch(**SIZES, **sparse, expert_layers=(False, True) * 2).period == 2
    assert Arch(**SIZES, **sparse, expert_layers=(False, True, True, True)).period == 4
    assert Arch(**SIZES, **sparse, expert_layers=(False, True) * 2).numbers()["M"] == (1, 3)
    with pytest.raises(ValueError, match="experts_per_token"):
        Arch(**SIZES, experts=2, experts_per_token=3)
