"""Mixture of experts: the two ways to compute it agree, and layers may alternate."""

import jax
import numpy as np
import pytest

from jaxpool.nn import experts, params
from jaxpool.nn.arch import Arch
from jaxpool.nn.records import Mixture

SIZES = dict(vocab=50, layers=4, dim=12, heads=2, kv_heads=2, head_dim=6, mlp_dim=20)


MIXTURES = {
    "plain": dict(norm_experts=True),
    "biased": dict(gated=True, mixture=Mixture(bias=True, limit=2.0)),
    "grouped": dict(
        gated=True,
        mixture=Mixture(
            sigmoid=True,
            corrected=True,
            groups=3,
            best_groups=2,
            scale=2.5,
            shared=7,
            shared_gate=True,
        ),
    ),
}


def weights(arch):
    """The experts of one layer, no bias of which is zero."""
    leaves = params.abstract(arch)["layers"]["experts"]
    first = jax.tree.map(lambda leaf: leaf[0], params.init(jax.random.key(0), leaves, 0.3))
    return jax.tree.map(lambda x: x + jax.random.normal(jax.random.key(2), x.shape) / 2, first)


@pytest.mark.parametrize("name", MIXTURES)
def test_ragged_products_equal_every_expert(name, monkeypatch):
    arch = Arch(
        **SIZES, experts=6, experts_per_token=2, expert_dim=8, mlp_bias=True, **MIXTURES[name]
    )
    mine, x = weights(arch), jax.random.normal(jax.random.key(1), (2, 7, 12))
    wanted = experts.experts(mine, x, arch)
    monkeypatch.setattr(experts, "every", experts.ragged)
    np.testing.assert_allclose(experts.experts(mine, x, arch), wanted, atol=2e-5)


def test_period_of_the_kinds_of_layers():
    sparse = dict(experts=2, experts_per_token=1)
    assert Arch(**SIZES).period == 1
    assert Arch(**SIZES, **sparse).period == 1
    assert Arch(**SIZES, **sparse, expert_layers=(False, True) * 2).period == 2
    assert Arch(**SIZES, **sparse, expert_layers=(False, True, True, True)).period == 4
    assert Arch(**SIZES, **sparse, expert_layers=(False, True) * 2).numbers()["M"] == (1, 3)
    with pytest.raises(ValueError, match="experts_per_token"):
        Arch(**SIZES, experts=2, experts_per_token=3)
