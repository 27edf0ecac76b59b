"""The last layer for some tokens alone: the numbers that all of it gives them."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxpool.engine.batch import TEXT, Request, fill, place
from jaxpool.engine.executor import programs
from jaxpool.heads.steps import Activate, Cut, Dense, Normalize, Pool, picked, run
from jaxpool.heads.steps import abstract as abstract_heads
from jaxpool.heads.words import WeighedPool
from jaxpool.nn import params
from jaxpool.nn.arch import Arch, Disentangled, Rotary
from jaxpool.nn.segments import take
from jaxpool.nn.transformer import forward

SIZES = dict(vocab=50, layers=2, dim=16, heads=4, kv_heads=2, head_dim=4, mlp_dim=20)
TURN = dict(rotary=(Rotary(1e4, 4), Rotary(1e2, 4, scaling="dynamic", factor=2.0)))
EXPERTS = dict(experts=3, experts_per_token=2, expert_dim=8)
ARCHS = {
    "post": Arch(**SIZES, positions=32, embed_norm=True),
    "inner norm": Arch(**SIZES, inner_attention_norm=True, alibi=True),
    "sandwich": Arch(
        **SIZES, placement="sandwich", causal=True, qk_norm="head", residual_scale=0.5
    ),
    "branch": Arch(**SIZES, placement="branch", rotary_layers=(0, 1), **TURN),
    "first without norm": Arch(**SIZES, placement="pre", first_attention_norm=False),
    "windows": Arch(**SIZES, windows=(0, 3), final_norm=True),
    "shared layers": Arch(**SIZES, shared_layers=True, relative_buckets=8, relative_distance=6),
    "relative layers": Arch(**SIZES, relative_layers=True, relative_buckets=8, norm="rms"),
    "experts between": Arch(**SIZES | {"layers": 4}, **EXPERTS, expert_layers=(False, True) * 2),
    "adapters": Arch(**SIZES, adapters=2, adapter_rank=2),
    "disentangled": Arch(**SIZES | {"kv_heads": 4}, disentangled=Disentangled(8)),
    "no layers": Arch(**SIZES | {"layers": 0}),
}
LENGTHS = (5, 9, 2, 14)


@pytest.fixture(scope="module")
def packed() -> tuple:
    """Two rows of 16 tokens, three texts in one of them; where their last tokens lie, and more."""
    rng = np.random.default_rng(0)
    texts = [Request(rng.integers(0, 50, n).astype(np.int32), adapter=n % 3) for n in LENGTHS]
    plan = place([[0, 1, 2], [3]], 2, 16, LENGTHS)
    kept = np.zeros((2, 4), np.int32)
    kept[plan.row, plan.segment - 1] = plan.start + np.array(LENGTHS) - 1
    return plan, *fill(plan, texts, TEXT._replace(adapters=True)), kept


@pytest.mark.parametrize(
    ("name", "unroll"), [*((name, False) for name in ARCHS), ("sandwich", True)]
)
def test_kept_tokens(name, unroll, packed):
    arch, (plan, batch, _, kept) = ARCHS[name], packed
    weights = params.init(jax.random.key(0), params.abstract(arch), 0.3)
    compute = jax.jit(forward, static_argnums=(2, 3))
    whole = np.asarray(compute(weights, batch, arch, unroll))
    some = np.asarray(compute(weights, batch, arch, unroll, kept))
    assert some.shape == (*kept.shape, arch.dim)
    place = plan.row, plan.segment - 1
    wanted = whole[plan.row, kept[place]]
    assert np.abs(wanted).max() > 0.1
    np.testing.assert_allclose(some[place], wanted, atol=5e-6, rtol=0)


def test_gradients_are_those_of_the_whole(packed):
    arch, (plan, batch, _, kept) = ARCHS["post"], packed
    weights = params.init(jax.random.key(0), params.abstract(arch), 0.3)
    place = plan.row, plan.segment - 1

    def loss(weights, kept, whole=None):
        hidden = forward(weights, batch, arch, kept=kept)
        return jnp.mean((hidden if whole is None else take(hidden, whole))[place] ** 3)

    got, wanted = jax.grad(loss)(weights, kept), jax.grad(loss)(weights, None, kept)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=0, atol=1e-6), got, wanted)
    assert all(np.abs(leaf).max() > 1e-3 for leaf in jax.tree.leaves(got["layers"]["mlp"]))


HEAD = Dense("classifier", 16, 3)
FIRST, LAST = (Pool((kind,)) for kind in ("cls", "lasttoken"))


@pytest.mark.parametrize("pool", [FIRST, LAST], ids=["first", "last"])
def test_programs_compute_the_picked_tokens_alone(pool, packed):
    arch, (plan, batch, controls, _) = ARCHS["post"], packed
    controls = controls._replace(skip=np.ones_like(controls.skip))
    leaves = params.abstract(arch) | {"heads": abstract_heads([(HEAD,)])}
    weights = params.init(jax.random.key(0), leaves, 0.3)
    chains = ((pool, HEAD, Activate("softmax")), (pool, Cut(), Normalize()))
    hidden = forward(weights, batch, arch)
    for steps, got in zip(chains, programs(weights, batch, controls, arch, chains), strict=True):
        wanted = run(steps, weights["heads"], hidden, batch, controls)
        place = plan.row, plan.segment - 1
        np.testing.assert_allclose(got[place], wanted[place], atol=2e-6, rtol=0)


def test_picking_saves_work(packed):
    _, batch, controls, _ = packed
    arch = ARCHS["post"].replace(layers=1)
    weights = params.init(jax.random.key(0), params.abstract(arch))

    def flops(pool):
        run = jax.jit(programs, static_argnums=(3, 4))
        return run.lower(weights, batch, controls, arch, ((pool,),)).cost_analysis()["flops"]

    assert flops(FIRST) < 0.6 * flops(Pool(("mean",)))


@pytest.mark.parametrize(
    "chains",
    [
        ((FIRST, HEAD), (Normalize(),)),
        ((FIRST,), (LAST,)),
        ((HEAD, FIRST),),
        ((Pool(("cls", "mean")),),),
        ((WeighedPool(("cls",), "words", 50),),),
        ((),),
    ],
)
def test_what_needs_more_tokens_gets_all(chains, packed):
    _, batch, controls, _ = packed
    assert picked(chains, batch, controls) is None
