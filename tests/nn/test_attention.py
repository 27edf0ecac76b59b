"""The attention kernels against a plain float64 computation, text by text."""

from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxpool.engine.batch import TEXT, Request, fill, place
from jaxpool.nn import attention, kernels, params
from jaxpool.nn.arch import Arch
from jaxpool.nn.flash import Blocks, extents
from jaxpool.nn.low_rank import LatentHeads
from jaxpool.nn.positions import alibi_slopes

LENGTHS = (150, 90, 300)


def arch(**switches) -> Arch:
    """Attention of 4 heads over 2 key heads."""
    sizes = {"vocab": 9, "layers": 1, "dim": 8, "heads": 4, "kv_heads": 2, "head_dim": 8}
    return Arch(**sizes, mlp_dim=8, **switches)


ARCHS = {
    "bidirectional": arch(),
    "causal": arch(causal=True),
    "window": arch(windows=(20,)),
    "causal window": arch(causal=True, windows=(20,)),
    "softcap": arch(attention_softcap=2.0, attention_scale=0.5),
    "alibi": arch(alibi=True),
    "sinks": arch(sinks=True, windows=(20,)),
    "narrow values": arch(causal=True, latent=LatentHeads(4, 0, turned=2, value_dim=5)),
}
FUSED = [name for name in ARCHS if name not in ("alibi", "sinks")]
SINK = np.float32([3.0, -1.0, 4.0, 0.5])


def expected(q, k, v, arch: Arch) -> np.ndarray:
    """Attention of one text: q `[T, N, H]`, k and v `[T, K, H]`."""
    group = arch.heads // arch.kv_heads
    k, v = (np.repeat(x, group, axis=1) for x in (k, v))
    scores = np.einsum("tnh,snh->nts", q, k) * arch.scale
    if arch.attention_softcap:
        scores = arch.attention_softcap * np.tanh(scores / arch.attention_softcap)
    ahead = np.arange(len(q))[None, :] - np.arange(len(q))[:, None]
    if arch.alibi:
        scores -= alibi_slopes(arch.heads)[:, None, None] * np.abs(ahead)
    hidden = np.zeros_like(ahead, bool)
    if arch.causal:
        hidden |= ahead > 0
    if arch.windows:
        hidden |= np.abs(ahead) > arch.windows[0]
    scores = np.where(hidden, -np.inf, scores)
    most = scores.max(-1, keepdims=True)
    weights = np.exp(scores - most)
    lost = np.exp(SINK[:, None, None] - most) if arch.sinks else 0.0
    return np.einsum("nts,snh->tnh", weights / (weights.sum(-1, keepdims=True) + lost), v)


def operands(plan, arch: Arch):
    """Random q, k, v of a batch."""
    rng = np.random.default_rng(0)
    value = arch.latent.value_dim if arch.latent else arch.head_dim
    shapes = ((arch.heads, arch.head_dim), (2, arch.head_dim), (2, value))
    shapes = [(plan.rows, plan.length, *shape) for shape in shapes]
    return [rng.normal(size=shape).astype(np.float32) for shape in shapes]


def packed():
    """Two rows of 400: texts of 150 and 90 tokens in one, of 300 in the other."""
    plan = place([[0, 1], [2]], 2, 400, LENGTHS)
    return plan, fill(plan, [Request(np.ones(n, np.int32)) for n in LENGTHS])[0]


@pytest.mark.parametrize("kernel", ["dense", "blocked"])
@pytest.mark.parametrize("name", ARCHS)
def test_kernel(kernel, name, monkeypatch):
    arch, (plan, batch) = ARCHS[name], packed()
    monkeypatch.setattr(attention, "backend", lambda *_: kernel)
    q, k, v = operands(plan, arch)
    attend = attention.attention(params.init(jax.random.key(0), params.abstract(arch)), batch, arch)
    got = np.asarray(attend(q, k, v, None, sink=SINK if arch.sinks else None))
    for row, start, index in zip(plan.row, plan.start, plan.request, strict=True):
        span = (row, slice(start, start + LENGTHS[index]))
        wanted = expected(*(x[span].astype(np.float64) for x in (q, k, v)), arch)
        np.testing.assert_allclose(got[span], wanted, atol=2e-6, rtol=0)


@pytest.mark.parametrize("name", FUSED)
def test_splash(name, monkeypatch):
    arch = ARCHS[name].replace(kernel="splash")
    plan = place([[0, 1], [2]], 2, 384, LENGTHS)
    batch = fill(plan, [Request(np.ones(n, np.int32)) for n in LENGTHS])[0]
    assert kernels.backend(arch, 384) == "splash"
    monkeypatch.setattr(attention, "INTERPRET", True)
    agrees_with_xla(arch, batch, operands(plan, arch), 5e-6)


@pytest.mark.parametrize("head_dim", [8, 72, 256])
@pytest.mark.parametrize("name", FUSED)
def test_flash(name, head_dim, monkeypatch):
    arch, (plan, batch) = ARCHS[name].replace(kernel="flash", head_dim=head_dim), packed()
    assert kernels.backend(arch, 400) == "flash"
    monkeypatch.setattr(attention, "INTERPRET", True)
    agrees_with_xla(arch, batch, operands(plan, arch), 5e-6)


def test_flash_reads_the_keys_of_its_texts_alone():
    _, batch = packed()
    first, last = extents(batch.segments[:, :384], Blocks(64, 32, 4, 2), False, 0)
    # Texts of tokens 0-149 and 150-239, then padding.
    assert first[0].tolist() == [0, 0, 0, 4, 7, 7] and last[0].tolist() == [5, 5, 8, 12, 12, 12]
    first, last = extents(batch.segments[:, :384], Blocks(64, 32, 4, 2), True, 20)
    assert first[0].tolist() == [0, 1, 3, 5, 7, 9] and last[0].tolist() == [2, 4, 6, 8, 10, 12]


@pytest.mark.slow
@pytest.mark.parametrize("kernel", ["splash", "flash"])
def test_gradient_of_fused_kernels(kernel, monkeypatch):
    """A training step differentiates the kernel: the gradient of XLA's, on real tokens."""
    arch = ARCHS[next(iter(ARCHS))].replace(kernel=kernel)
    plan = place([[0, 1], [2]], 2, 384, LENGTHS)
    batch = fill(plan, [Request(np.ones(n, np.int32)) for n in LENGTHS])[0]
    monkeypatch.setattr(attention, "INTERPRET", True)
    monkeypatch.setattr(attention, "CUDNN_IMPLEMENTATION", "xla")
    real = jnp.asarray(batch.segments > 0)[..., None, None].astype(jnp.float32)

    def gradients(arch):
        attend = attention.attention({}, batch, arch)
        return jax.jit(jax.grad(lambda qkv: jnp.sum(jnp.sin(attend(*qkv, None)) * real)))

    inputs = operands(plan, arch)
    wanted = gradients(arch.replace(kernel="xla"))(inputs)
    for one, other in zip(gradients(arch)(inputs), wanted, strict=True):
        np.testing.assert_allclose(one * real, other * real, atol=2e-5, rtol=0)


@pytest.mark.parametrize("name", ["bidirectional", "causal", "window", "causal window", "alibi"])
def test_what_cudnn_is_asked(name, monkeypatch):
    arch, (plan, batch) = ARCHS[name].replace(kernel="cudnn"), packed()
    assert kernels.backend(arch, 400) == "cudnn"
    monkeypatch.setattr(attention, "CUDNN_IMPLEMENTATION", "xla")
    agrees_with_xla(arch, batch, operands(plan, arch), 5e-6)


def agrees_with_xla(arch, batch, operands, tolerance: float) -> None:
    """The kernel of `arch` against XLA's, on real tokens."""
    real = batch.segments > 0
    got = attention.attention({}, batch, arch)(*operands, None)
    wanted = attention.attention({}, batch, arch.replace(kernel="xla"))(*operands, None)
    np.testing.assert_allclose(got[real], wanted[real], atol=tolerance, rtol=0)


@pytest.mark.parametrize("windows", [(), (20,)], ids=["past", "window"])
def testextents_of_a_long_causal_row(windows, monkeypatch):
    """Texts of 150 and 90 after the prefix that both see: numbers and gradients of all keys."""
    causal = arch(causal=True, windows=windows)
    plan = place([[2, 0, 1]], 1, 700, LENGTHS)
    after = (
        Request(np.ones(150, np.int32), position=300),
        Request(np.ones(90, np.int32), position=300),
    )
    batch = fill(plan, [*after, Request(np.ones(300, np.int32))], TEXT._replace(context=True))[0]
    weights = (
        np.random.default_rng(1).normal(size=(700, 4, 8)) * (batch.segments[0] > 0)[:, None, None]
    )

    def loss(operands):
        out = attention.attention({}, batch, causal)(*operands, None)
        return (out[0] * weights.astype(np.float32)).sum(), out

    found = {}
    for kernel in ("dense", "blocked"):
        monkeypatch.setattr(attention, "xla", lambda _, kernel=kernel: kernel)
        (_, out), slopes = jax.value_and_grad(loss, has_aux=True)(operands(plan, causal))
        found[kernel] = [np.asarray(out)[0, :540], *slopes]
    for dense, blocked in zip(*found.values(), strict=True):
        np.testing.assert_allclose(blocked, dense, atol=5e-6, rtol=0)


def test_kernels_by_platform_and_capability():
    half = arch(dtype="bfloat16")
    assert kernels.choose("cpu", half) == "xla"
    assert kernels.choose("tpu", half) == "splash"
    assert kernels.choose("tpu", half.replace(alibi=True)) == "xla"
    for change in ({}, {"head_dim": 256}, {"attention_softcap": 30.0}):
        assert kernels.choose("gpu", half.replace(**change)) == "flash"
    assert kernels.choose("gpu", half.replace(alibi=True)) == "cudnn"
    for platform in ("tpu", "gpu"):
        assert kernels.choose(platform, half.replace(sinks=True)) == "xla"
    for change in ({"dtype": "float32"}, {"head_dim": 512}, {"alibi": True, "head_dim": 256}):
        assert kernels.choose("gpu", half.replace(**change)) == "xla"
    assert kernels.backend(half.replace(kernel="splash"), 192) == "dense"


@pytest.mark.parametrize(
    ("kind", "capability", "platform"),
    [("gpu", "9.0", "gpu"), ("gpu", "12.0", "gpu"), ("gpu", "7.5", "cpu"), ("gpu", "gfx942", "cpu")]
    + [("tpu", None, "tpu"), ("cpu", None, "cpu")],
)
def test_old_cards_run_the_kernels_of_xla(kind, capability, platform):
    device = SimpleNamespace(platform=kind, compute_capability=capability)
    assert kernels.platform_of(device) == platform


def test_each_layer_has_its_window():
    layered = arch().replace(layers=3, windows=(20, 0, 20))
    plan, batch = packed()
    q, k, v = operands(plan, layered)
    attend = jax.jit(lambda window: attention.attention({}, batch, layered)(q, k, v, window))
    for window in layered.windows:
        single = layered.replace(layers=1, windows=(window,))
        wanted = attention.attention({}, batch, single)(q, k, v, None)
        np.testing.assert_allclose(attend(window), wanted, atol=1e-6, rtol=0)


def test_long_rows_take_blocks():
    assert kernels.backend(arch(), 256) == "dense"
    assert kernels.backend(arch(), 8192) == "blocked"
