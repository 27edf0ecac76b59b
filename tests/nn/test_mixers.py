"""Mixers that are not attention: texts of a row do not mix, nor do devices of a mesh."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxpool.engine import batch as batching
from jaxpool.engine import planner
from jaxpool.engine.batch import Request
from jaxpool.nn import delta, params
from jaxpool.nn.arch import Arch, Rotary
from jaxpool.nn.records import DeltaNet, Fourier, Relative, ShortConvolution
from jaxpool.nn.transformer import forward
from tests.tiny import EMBED, engine
from tests.weight_gathers import gathered_weights

STD = 0.1
LENGTHS = [5, 21, 2, 13, 9, 1]
DECODER = Arch(
    vocab=99, layers=2, dim=32, heads=8, kv_heads=2, head_dim=4, mlp_dim=64,
    norm="rms", norm_bias=False, norm_eps=1e-6, placement="pre", final_norm=True, causal=True,
    gated=True, activation="silu", qkv_bias=False, out_bias=False, mlp_bias=False,
    rotary=(Rotary(100.0, 4),), max_length=64,
)  # fmt: skip
DELTA = DeltaNet(key_heads=4, value_heads=8, key_dim=6, value_dim=5, taps=4)
MIXERS = {
    "short convolution": dict(mixer=ShortConvolution(32, 3, bias=True)),
    "delta net": dict(mixer=DELTA, gated_attention=True, qk_norm="head"),
}
ARCHES = {x: DECODER.replace(**y, attention_layers=(True, False)) for x, y in MIXERS.items()}

ENCODER = DECODER.replace(causal=False, rotary=(), kv_heads=8, attention_layers=(False, True))
ENCODERS = {
    "fourier": ENCODER.replace(mixer=Fourier()),
    "relative": ENCODER.replace(mixer=Relative()),
}


@pytest.fixture(params=ARCHES)
def arch(request):
    return ARCHES[request.param]


@pytest.fixture(params=[*ARCHES, *(pytest.param(x, marks=pytest.mark.slow) for x in ENCODERS)])
def any_arch(request):
    return (ARCHES | ENCODERS)[request.param]


def texts():
    """Random texts of ragged lengths."""
    rng = np.random.default_rng(0)
    return [Request(rng.integers(5, 99, n).astype(np.int32)) for n in LENGTHS]


def plans():
    """One text a row, and texts packed in rows."""
    yield batching.place([[i] for i in range(len(LENGTHS))], len(LENGTHS), 32, LENGTHS)
    (packed,) = planner.plan(LENGTHS, (32,), 64)
    assert packed.rows < len(LENGTHS)
    yield packed


def by_text(weights, plan, arch):
    """The hidden states of each text, in the order of the texts."""
    requests = texts()
    batch, _ = batching.fill(plan, requests)
    hidden = forward(weights, batch, arch)
    places = sorted(zip(plan.request, plan.row, plan.start, strict=True))
    return [hidden[row, at : at + LENGTHS[i]] for i, row, at in places]


def loss(weights, plan, arch):
    """A number that every feature of every text moves, and the hidden states."""
    found = by_text(weights, plan, arch)
    flat = jnp.concatenate(found)
    return jnp.sum(jnp.sin(3 * flat) * jnp.linspace(-1, 1, arch.dim)) / len(flat), found


def test_packed_rows_are_padded_rows(any_arch):
    """Hidden states to 1e-5, and the gradient of every parameter to that part of its norm."""
    arch = any_arch
    weights = params.init(jax.random.key(0), params.abstract(arch), STD)
    compute = partial(jax.value_and_grad, has_aux=True)
    alone, packed = (
        jax.jit(compute(partial(loss, plan=plan, arch=arch)))(weights) for plan in plans()
    )
    (_, hidden), gradients = alone
    assert np.ptp(np.concatenate(hidden)) > 1
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-5), hidden, packed[0][1])
    for a, b in zip(jax.tree.leaves(gradients), jax.tree.leaves(packed[1]), strict=True):
        assert np.linalg.norm(a - b) <= 1e-5 * np.linalg.norm(a)


def test_a_mesh_agrees_with_one_device(arch):
    one, meshed = engine(arch), engine(arch, 2, 4)
    wanted, got = (np.stack(each.finish(each.start(EMBED, texts()))) for each in (one, meshed))
    np.testing.assert_allclose(got, wanted, atol=1e-5)
    kernels = params.flatten(meshed.executor.params)
    name = f"layers.mixer.{'out' if arch.mixer is DELTA else 'down'}.kernel"
    assert kernels[name].addressable_shards[0].data.size == kernels[name].size // 4
    program = meshed.executor.compiled(meshed.keys([EMBED])[0]).as_text()
    assert gathered_weights(program, meshed.executor.params) == []


def test_the_last_layer_gives_the_kept_tokens(any_arch):
    """A mixer's last layer, of which some tokens alone are wanted."""
    arch = any_arch
    weights = params.init(jax.random.key(0), params.abstract(arch), 0.3)
    batch, _ = batching.fill(next(plans()), texts())
    kept = jnp.asarray([[0], [20], [1], [7], [8], [0]])
    compute = jax.jit(forward, static_argnums=2)
    whole, some = compute(weights, batch, arch), compute(weights, batch, arch, kept=kept)
    np.testing.assert_allclose(some, np.take_along_axis(whole, kept[..., None], 1), atol=1e-5)


def stepwise(each):
    """The gated delta rule token by token, as its authors write it."""
    _, length, heads, width = each.value.shape
    group = heads // each.key.shape[2]
    query, key = (np.repeat(x, group, axis=2) for x in (each.query, each.key))
    memory = np.zeros((heads, query.shape[-1], width))
    out = np.zeros((length, heads, width))
    for t in range(length):
        k, v, share = key[0, t], each.value[0, t], each.share[0, t]
        memory = memory * np.exp(each.fade[0, t])[:, None, None]
        wrong = v - np.einsum("hky,hk->hy", memory, k)
        memory = memory + np.einsum("h,hk,hy->hky", share, k, wrong)
        out[t] = np.einsum("hky,hk->hy", memory, query[0, t]) * k.shape[-1] ** -0.5
    return out


def test_chunks_are_the_rule_token_by_token(monkeypatch):
    """Texts over several chunks and several in one; a memory that fades, and correlated keys."""
    monkeypatch.setattr(delta, "CHUNK", 8)
    rng, ends = np.random.default_rng(0), (3, 21, 38)
    lengths = np.diff((0, *ends))
    key = rng.normal(size=(1, 38, 2, 6)) + 2
    each = delta.Memories(
        rng.normal(size=(1, 38, 2, 6)),
        key / np.linalg.norm(key, axis=-1, keepdims=True),
        rng.normal(size=(1, 38, 4, 5)),
        -np.exp(rng.normal(size=(1, 38, 4))) / 2,
        rng.uniform(size=(1, 38, 4)),
    )
    segments = np.repeat([1, 2, 3], lengths)[None].astype(np.int32)
    got = delta.delta_rule(jax.tree.map(jnp.float32, each), segments)[0]
    alone = [
        delta.Memories(*(x[:, e - n : e] for x in each)) for n, e in zip(lengths, ends, strict=True)
    ]
    np.testing.assert_allclose(got, np.concatenate([stepwise(x) for x in alone]), atol=1e-5)
