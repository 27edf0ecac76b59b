"""Mixers that are not attention: texts of a row do not mix, nor do devices of a mesh."""

from functools import partial
from itertools import pairwise

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch

from jaxpool.engine import batch as batching
from jaxpool.engine import planner
from jaxpool.engine.batch import Request
from jaxpool.engine.sharding import rows_sharding
from jaxpool.nn import delta, mamba, params
from jaxpool.nn.arch import Arch, Rotary
from jaxpool.nn.low_rank import LatentHeads, Mamba
from jaxpool.nn.records import DeltaNet, Fourier, Mixture, Relative, ShortConvolution
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
HALF = (True, False)
ARCHES = {
    "short convolution": DECODER.replace(
        mixer=ShortConvolution(32, 3, bias=True), attention_layers=HALF
    ),
    "mamba": DECODER.replace(mixer=Mamba(16, 3, 5, taps=4), attention_layers=HALF),
    "delta net": DECODER.replace(
        mixer=DeltaNet(key_heads=4, value_heads=8, key_dim=6, value_dim=5, taps=4),
        attention_layers=HALF, gated_attention=True, qk_norm="head",
    ),
    "latent heads": DECODER.replace(
        kv_heads=8, head_dim=7, latent=LatentHeads(6, 5, turned=4, value_dim=3), sinks=True,
        windows=(0, 4), experts=6, experts_per_token=2, expert_dim=12, expert_layers=HALF,
        mixture=Mixture(sigmoid=True, corrected=True, groups=3, best_groups=2, scale=1.5, shared=8),
    ),
}  # fmt: skip
ENCODER = DECODER.replace(causal=False, rotary=(), kv_heads=8, attention_layers=(False, True))
ENCODERS = {
    "fourier": ENCODER.replace(mixer=Fourier()),
    "relative": ENCODER.replace(mixer=Relative()),
}
# The kernels of each that a mesh splits.
SPLIT = {
    "delta net": ("layers.mixer.out",),
    "latent heads": ("layers.attention.value", "layers.experts.up", "layers.experts.down"),
    "fourier": ("layers.attention.out",),
    "relative": ("layers.mixer.out",),
}
EVERY = ARCHES | ENCODERS
SLOW = ("mamba", "latent heads", *ENCODERS)


def names(*slow):
    """The names of all, of which some are slow tests."""
    return [pytest.param(x, marks=pytest.mark.slow) if x in slow else x for x in EVERY]


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


def by_text(weights, plan, arch, mesh=None):
    """The hidden states of each text, in the order of the texts; rows are split over a mesh."""
    batch, _ = batching.fill(plan, texts())
    if mesh is not None:
        batch = jax.lax.with_sharding_constraint(batch, rows_sharding(mesh))
    hidden = forward(weights, batch, arch)
    places = sorted(zip(plan.request, plan.row, plan.start, strict=True))
    return [hidden[row, at : at + LENGTHS[i]] for i, row, at in places]


def loss(weights, plan, arch, mesh=None):
    """A number that every feature of every text moves, and the hidden states."""
    found = by_text(weights, plan, arch, mesh)
    flat = jnp.concatenate(found)
    return jnp.sum(jnp.sin(3 * flat) * jnp.linspace(-1, 1, arch.dim)) / len(flat), found


@pytest.mark.parametrize("name", names(*SLOW))
def test_packed_rows_are_padded_rows(name):
    """Hidden states to 1e-5; the gradient of every parameter to that part of its norm.

    And each element of it to 2e-5 of the largest: float32 sums over all tokens in another order,
    and the slopes of the rates cancel. Slopes below 1e-3 are measured by that.
    """
    arch = EVERY[name]
    weights = params.init(jax.random.key(0), params.abstract(arch), STD)
    compute = partial(jax.value_and_grad, has_aux=True)
    alone, packed = (
        jax.jit(compute(partial(loss, plan=plan, arch=arch)))(weights) for plan in plans()
    )
    (_, hidden), gradients = alone
    assert np.ptp(np.concatenate(hidden)) > 1
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-5), hidden, packed[0][1])
    packed = params.flatten(packed[1])
    for path, a in params.flatten(gradients).items():
        largest = np.abs(a).max()
        # What corrects scores decides, and adds nothing; all tokens here are of one part.
        assert largest > 1e-5 or "correction" in path or "part" in path, path
        norm = max(np.linalg.norm(a), 1e-3 * a.size**0.5)
        assert np.linalg.norm(packed[path] - a) <= 1e-5 * norm, path
        atol = 2e-5 * max(largest, 1e-3)
        np.testing.assert_allclose(packed[path], a, rtol=0, atol=atol, err_msg=path)


@pytest.mark.parametrize("name", names(*SLOW))
def test_a_mesh_agrees_with_one_device(name):
    arch = EVERY[name]
    one, meshed = engine(arch), engine(arch, 2, 4)
    wanted, got = (np.stack(each.finish(each.start(EMBED, texts()))) for each in (one, meshed))
    np.testing.assert_allclose(got, wanted, atol=1e-5)
    for split in SPLIT.get(name, ("layers.mixer.down",)):
        kernel = params.flatten(meshed.executor.params)[f"{split}.kernel"]
        assert kernel.addressable_shards[0].data.size == kernel.size // 4, split
    program = meshed.executor.compiled(meshed.keys([EMBED])[0]).as_text()
    assert gathered_weights(program, meshed.executor.params) == []


@pytest.mark.parametrize("name", names(*EVERY.keys() - {"fourier"}))
def test_gradients_on_a_mesh(name):
    """Of packed rows, split over the mesh as weights are: to 1e-5 of the norm of each parameter's.

    Slopes below 1e-3 are measured by that.
    """

    def slopes(*mesh):
        on = engine(EVERY[name], *mesh).executor
        given = partial(loss, plan=[*plans()][1], arch=on.arch, mesh=on.mesh)
        compute = jax.jit(jax.grad(given, has_aux=True))
        return params.flatten(compute(on.params)[0])

    alone, meshed = slopes(1, 1), slopes(2, 4)
    for path, a in alone.items():
        norm = max(np.linalg.norm(a), 1e-3 * a.size**0.5)
        assert np.linalg.norm(np.asarray(meshed[path]) - np.asarray(a)) <= 1e-5 * norm, path


@pytest.mark.parametrize("name", names(*SLOW))
def test_the_last_layer_gives_the_kept_tokens(name):
    """A mixer's last layer, of which some tokens alone are wanted."""
    arch = EVERY[name]
    weights = params.init(jax.random.key(0), params.abstract(arch), 0.3)
    batch, _ = batching.fill(next(plans()), texts())
    kept = jnp.asarray([[0], [20], [1], [7], [8], [0]])
    compute = jax.jit(forward, static_argnums=2)
    whole, some = compute(weights, batch, arch), compute(weights, batch, arch, kept=kept)
    np.testing.assert_allclose(some, np.take_along_axis(whole, kept[..., None], 1), atol=1e-5)


def delta_by_token(query, key, value, fade, share):
    """The gated delta rule of one text token by token, as its authors write it; in torch."""
    group = value.shape[1] // key.shape[1]
    query, key = (x.repeat_interleave(group, 1) for x in (query, key))
    memory, out = torch.zeros(*key.shape[1:], value.shape[-1], dtype=key.dtype), []
    for q, k, v, f, s in zip(query, key, value, fade, share, strict=True):
        memory = memory * f.exp()[:, None, None]
        wrong = v - torch.einsum("hky,hk->hy", memory, k)
        memory = memory + torch.einsum("h,hk,hy->hky", s, k, wrong)
        out.append(torch.einsum("hky,hk->hy", memory, q) * k.shape[-1] ** -0.5)
    return torch.stack(out)


def states_by_token(step, value, write, read, fading):
    """Selective state spaces of one text token by token, in torch."""
    state, out = torch.zeros_like(fading), []
    for s, v, w, r in zip(step, value, write, read, strict=True):
        state = (s[:, None] * fading).exp() * state + (s * v)[:, None] * w
        out.append(state @ r)
    return torch.stack(out)


def delta_operands(rng):
    """A memory that fades, and correlated keys."""
    key = rng.normal(size=(TOKENS, 2, 6)) + 2
    fade = -np.exp(rng.normal(size=(TOKENS, 4))) / 2
    query, value = rng.normal(size=(TOKENS, 2, 6)), rng.normal(size=(TOKENS, 4, 5))
    key /= np.linalg.norm(key, axis=-1, keepdims=True)
    return [query, key, value, fade, rng.uniform(size=(TOKENS, 4))], []


def state_operands(rng):
    """States that fade at many rates."""
    step, value = rng.uniform(size=(TOKENS, 6)), rng.normal(size=(TOKENS, 6))
    write, read = rng.normal(size=(2, TOKENS, 3))
    return [step, value, write, read], [-np.exp(2 * rng.normal(size=(6, 3)))]


def delta_in_chunks(segments, *each):
    return delta.delta_rule(delta.Memories(*(x[None] for x in each)), segments)[0]


def states_in_chunks(segments, *each):
    *each, fading = each
    return mamba.state_space(fading, *(x[None] for x in each), segments)[0]


TOKENS, ENDS = 42, (0, 3, 21, 38)  # four of padding
CHUNKS = {
    "delta net": (delta_operands, delta_by_token, delta_in_chunks),
    "mamba": (state_operands, states_by_token, states_in_chunks),
}


@pytest.mark.parametrize("rule", CHUNKS)
def test_chunks_are_the_rule_token_by_token(rule, monkeypatch):
    """Texts over several chunks and several in one, and the slopes, by torch in float64.

    An element may be off by a part of 1e-5 of its array's largest; padding has no slope.
    """
    for module in (delta, mamba):
        monkeypatch.setattr(module, "CHUNK", 8)
    monkeypatch.setattr(delta, "SMALL", 4)
    operands, by_token, in_chunks = CHUNKS[rule]
    rng = np.random.default_rng(0)
    tokens, shared = operands(rng)
    theirs = [torch.tensor(x, requires_grad=True) for x in (*tokens, *shared)]
    spans = [slice(*span) for span in pairwise(ENDS)]
    each, beside = theirs[: len(tokens)], theirs[len(tokens) :]
    wanted = torch.cat([by_token(*(x[span] for x in each), *beside) for span in spans])
    weights = rng.normal(size=(TOKENS, *wanted.shape[1:]))
    weights[ENDS[-1] :] = 0
    (wanted * torch.tensor(weights[: ENDS[-1]])).sum().backward()

    segments = np.repeat([1, 2, 3, 0], np.diff((*ENDS, TOKENS)))[None].astype(np.int32)

    def loss(operands):
        out = in_chunks(segments, *operands)
        return jnp.sum(out * jnp.float32(weights)), out

    (_, got), slopes = jax.jit(jax.value_and_grad(loss, has_aux=True))(
        [jnp.float32(x) for x in (*tokens, *shared)]
    )
    ours = [got[: ENDS[-1]], *slopes]
    for found, reference in zip(ours, [wanted.detach(), *(x.grad for x in theirs)], strict=True):
        largest = float(reference.abs().max())
        np.testing.assert_allclose(found, reference, rtol=0, atol=1e-5 * largest)
