"""The engine: no compile after the warm-up, threads, several tasks at once, bit-equal results."""

from concurrent.futures import ThreadPoolExecutor

import jax
import numpy as np
import pytest

from jaxpool.engine import executor as executors
from jaxpool.engine import serialized
from jaxpool.engine.batch import Request
from jaxpool.engine.engine import EngineOptions
from tests.tiny import BERT, EMBED, LIMIT, TOKENS, engine


def texts(lengths, seed: int = 0) -> list[Request]:
    rng = np.random.default_rng(seed)
    return [Request(rng.integers(1, 99, n).astype(np.int32)) for n in lengths]


@pytest.fixture(scope="module")
def warm():
    """A warmed-up engine; no test may make it compile."""
    made = engine(max_num_batched_tokens=96)
    made.warmup([EMBED])
    made.executor.frozen = True
    return made


def test_compiles_nothing_after_the_warm_up(warm):
    before, events = warm.executor.compilations, []
    jax.monitoring.register_event_duration_secs_listener(
        lambda name, *_, **__: events.append(name) if "backend_compile" in name else None
    )
    rng = np.random.default_rng(1)
    served = 0
    while served < 10_000:
        requests = texts(rng.integers(1, LIMIT + 1, rng.integers(1, 2000)))
        served += sum(1 for _ in warm.run(EMBED, requests))
    assert warm.executor.compilations == before == len(warm.shapes)
    assert not events
    assert warm.real_tokens / warm.computed_tokens > 0.9


def test_a_compile_after_the_warm_up_is_an_error(warm):
    with pytest.raises(RuntimeError, match="no executable and compiling is off"):
        list(warm.run(TOKENS, texts([5])))


def test_threads_get_their_own_results(warm):
    requests = texts([5, 9, 30, 48, 12, 7])
    wanted = dict(warm.run(EMBED, requests))

    def alone(i):
        return warm.finish(warm.start(EMBED, [requests[i]]))[0]

    with ThreadPoolExecutor(4) as pool:
        got = list(pool.map(alone, list(range(6)) * 5))
    for i, vector in enumerate(got):
        np.testing.assert_allclose(vector, wanted[i % 6], atol=1e-5)


def test_several_tasks_from_one_forward():
    made, requests = engine(), texts([5, 9])
    both = made.finish(made.start((EMBED, TOKENS), requests))
    assert made.executor.compilations == 1
    for (vector, tokens), alone, every in zip(
        both,
        made.finish(made.start(EMBED, requests)),
        made.finish(made.start(TOKENS, requests)),
        strict=True,
    ):
        np.testing.assert_allclose(vector, alone, atol=1e-6)
        np.testing.assert_allclose(tokens, every, atol=1e-6)


def test_batch_invariant_is_bit_identical():
    made = engine(batch_invariant=True, max_num_batched_tokens=192)
    requests = texts([5, 16, 9, 30, 48, 12, 7, 31, 2, 33, 40])
    alone = [made.finish(made.start(EMBED, [request]))[0] for request in requests]
    for order in (range(11), reversed(range(11)), np.random.default_rng(0).permutation(11)):
        order = list(order)
        together = made.finish(made.start(EMBED, [requests[i] for i in order]))
        for i, vector in zip(order, together, strict=True):
            assert vector.tobytes() == alone[i].tobytes()
    made.warmup([EMBED])
    assert made.executor.compilations == len(made.buckets)


def test_row_lengths_are_coarser_on_accelerators(monkeypatch):
    assert engine().buckets == (16, 24, 32, 48)
    monkeypatch.setattr(jax, "default_backend", lambda: "tpu")
    assert engine().buckets == (16, 32, 48)
    assert engine(batch_invariant=True).buckets == (16, 24, 32, 48)


def test_what_does_not_fit_in_memory_lowers_the_budget(monkeypatch):
    made = engine(max_num_batched_tokens=LIMIT * 4)
    need = executors.memory(made.executor.compiled(((EMBED.steps,), 2, LIMIT)))
    fits = need["temp"] + need["output"]
    monkeypatch.setattr(executors, "free_memory", lambda device: fits)
    made.warmup([EMBED])
    assert made.budget == LIMIT * 2
    monkeypatch.setattr(executors, "free_memory", lambda device: 1)
    with pytest.raises(MemoryError, match=r"A batch of 1 x 48 tokens needs .* lower max_num_batch"):
        engine(max_num_batched_tokens=LIMIT).warmup([EMBED])


@pytest.fixture
def small(monkeypatch):
    """Memory in which no batch of 4 rows of `LIMIT` tokens fits, but one of 2."""
    made = engine()
    needs = [executors.memory(made.executor.compiled(((EMBED.steps,), n, LIMIT))) for n in (2, 4)]
    two, four = (need["temp"] + need["output"] for need in needs)
    assert two < four
    monkeypatch.setattr(executors, "free_memory", lambda device: two)


def test_a_batch_that_does_not_fit_is_planned_again_in_smaller_ones(small):
    made, requests = engine(max_num_batched_tokens=LIMIT * 4), texts([LIMIT] * 7 + [9, 5])
    found = dict(made.run(EMBED, requests))
    assert made.budget == LIMIT * 2
    for i, request in enumerate(requests):
        (alone,) = made.finish(made.start(EMBED, [request]))
        np.testing.assert_allclose(found[i], alone, atol=1e-6)


@pytest.mark.parametrize("options", [{"batch_invariant": True}, {}])
def test_no_smaller_batch_where_shapes_are_fixed_or_none_is_smaller(options, small, monkeypatch):
    if not options:
        monkeypatch.setattr(executors, "free_memory", lambda device: 1)
    made = engine(max_num_batched_tokens=LIMIT * 4, **options)
    with pytest.raises(MemoryError, match="lower max_num_batched_tokens or max_model_len"):
        list(made.run(EMBED, texts([LIMIT] * 4)))
    assert made.budget == LIMIT * (4 if options else 1)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_no_call_copies_the_weights(dtype):
    made = engine(BERT.replace(layers=24, dim=64), dtype=dtype)
    compiled = made.executor.compiled(((EMBED.steps,), 1, 16))
    weights = sum(leaf.nbytes for leaf in jax.tree.leaves(made.executor.params["layers"]))
    assert executors.memory(compiled)["temp"] < weights / 4


def test_a_budget_below_one_text_is_refused():
    with pytest.raises(ValueError, match=r"max_num_batched_tokens \(40\) is smaller than max_mo"):
        engine(max_num_batched_tokens=40)
    assert EngineOptions().max_num_batched_tokens is None


class TestExecutables:
    """Executables on disk."""

    def test_load_without_compiling(self, warm, tmp_path):
        keys = warm.keys([EMBED])
        serialized.save(warm.executor, tmp_path, keys)
        fresh = engine(max_num_batched_tokens=96)
        assert serialized.load(fresh.executor, serialized.find(tmp_path), keys) == len(keys)
        fresh.executor.frozen = True
        requests = texts([5, 9, 30, 48])
        got, wanted = (dict(e.run(EMBED, requests)) for e in (fresh, warm))
        assert fresh.executor.compilations == 0
        for i in wanted:
            np.testing.assert_array_equal(got[i], wanted[i])

    def test_foreign_folders_are_refused(self, warm, tmp_path, monkeypatch):
        with pytest.raises(ValueError, match="it is not an output of `jaxpool compile`"):
            serialized.find(tmp_path)
        serialized.save(warm.executor, tmp_path, [])
        other = engine(BERT.replace(norm_eps=1e-5))
        with pytest.raises(ValueError, match="was compiled for another architecture"):
            serialized.load(other.executor, serialized.find(tmp_path), [])
        with pytest.raises(ValueError, match="was compiled for another mesh"):
            serialized.load(engine(data=2).executor, serialized.find(tmp_path), [])
        monkeypatch.setattr(jax, "__version__", "0.0.1")
        with pytest.raises(ValueError, match="another jax version: '.*', here it is '0.0.1'"):
            serialized.load(warm.executor, serialized.find(tmp_path), [])


def test_products_of_float32_models_are_float32(warm):
    def kinds(arch, users=None):
        executor = executors.Executor(warm.executor.params, arch, warm.executor.mesh)
        with jax.default_matmul_precision(users):
            text = executor.lower(((TOKENS.steps,), 2, 16)).as_text()
        return {"HIGHEST" in line for line in text.splitlines() if "dot_general" in line}

    assert kinds(BERT) == {True}
    assert kinds(BERT.replace(dtype="bfloat16")) == {False}
    assert kinds(BERT, users="bfloat16") == {False}
