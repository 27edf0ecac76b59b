"""Mixture of experts: the two ways to compute it agree, and layers may alternate."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxpool.nn import experts, params
from jaxpool.nn.arch import Arch
from jaxpool.nn.records import Mixture
from jaxpool.nn.sections import sections, whole

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


@pytest.mark.parametrize("chosen", ["ragged", "blocked"])
@pytest.mark.parametrize("name", MIXTURES)
def test_chosen_experts_equal_every_expert(name, chosen, monkeypatch):
    """Beside all experts on all tokens, the reference: slopes to 1e-5 of the norm of each leaf."""
    arch = Arch(
        **SIZES, experts=6, experts_per_token=2, expert_dim=8, mlp_bias=True, **MIXTURES[name]
    )
    mine, x = weights(arch), jax.random.normal(jax.random.key(1), (2, 77, 12))
    x = x.at[1].set(x[0, 0])  # most tokens choose the same, some experts none

    def wave(mine):
        out = experts.experts(mine, x, arch)
        return jnp.mean(jnp.sin(out)), out

    compute = jax.value_and_grad(wave, has_aux=True)
    (_, wanted), slopes = compute(mine)
    monkeypatch.setattr(experts, "every", getattr(experts, chosen))
    (_, found), ours = compute(mine)
    np.testing.assert_allclose(found, wanted, atol=2e-5)
    ours = params.flatten(ours)
    for path, slope in params.flatten(slopes).items():
        norm = np.linalg.norm(slope)
        assert norm > 0 or "correction" in path, path  # which decides, and adds nothing
        assert np.linalg.norm(ours[path] - slope) <= 1e-5 * norm, path


@pytest.mark.parametrize(
    ("kinds", "wanted"),
    [
        ("a", [("a", 1)]),
        ("aaaa", [("a", 4)]),
        ("abab", [("ab", 2)]),
        ("abbb", [("a", 1), ("b", 3)]),
        ("ddda" * 2 + "ddd", [("ddda", 2), ("d", 3)]),
        ("ccaccaccacacaca", [("cca", 3), ("ca", 3)]),
    ],
)
def test_layers_as_the_shortest_patterns(kinds, wanted):
    parts = tuple((kind, "mlp") for kind in kinds)
    found = sections(parts)
    assert [("".join(kind for kind, _ in x.kinds), x.times) for x in found] == wanted
    assert sum((x.kinds * x.times for x in found), ()) == parts
    assert len(whole(parts)) == (1 if kinds in ("a", "aaaa", "abab") else len(found))
    assert all(x.before == parts[: len(x.before)] for x in found)


def test_layers_of_each_kind():
    sparse = dict(experts=2, experts_per_token=1)
    assert Arch(**SIZES, **sparse, expert_layers=(False, True) * 2).numbers()["M"] == (1, 3)
    with pytest.raises(ValueError, match="experts_per_token"):
        Arch(**SIZES, experts=2, experts_per_token=3)
