"""Compiling beside serving: the device never waits for a compiler."""

import itertools
import threading
import time

import httpx
import numpy as np
import pytest

import jaxpool
from jaxpool.engine import executor as executors
from jaxpool.engine import serialized
from serving.warmup import Warmup

SHORT = {"max_model_len": 32, "max_num_batched_tokens": 64}  # few shapes


class FakeExecutor:
    """Notes the order of what it compiles; `gate` holds the compiler back."""

    def __init__(self):
        self.order, self.gate, self.compilations = [], threading.Event(), 0
        self.broken = None

    def compiled(self, key):
        self.gate.wait(10)
        if key[2] == self.broken:
            raise MemoryError("too long")
        self.order.append(key)
        self.compilations += 1


SHAPES = [(1, 16), (1, 64), (1, 128), (2, 128), (1, 256), (1, 512)]


@pytest.fixture
def warmup(request):
    thread = Warmup(FakeExecutor(), SHAPES, exact=getattr(request, "param", False))
    yield thread
    thread.executor.gate.set()
    thread.stop()


def wait(condition):
    for _ in range(6000):
        if condition():
            return
        time.sleep(0.01)
    raise AssertionError("it does not happen")


def lengths(warmup):
    """What was compiled, in order: each program's row lengths, once for all row counts."""
    return list(dict.fromkeys((name, length) for name, _, length in warmup.executor.order))


def test_rows_for_many_texts_come_first_and_what_a_request_waits_for_before_all(warmup):
    for name in "ab":
        warmup.want(name)
    waits = warmup.demand(["b"], 300)
    warmup.start()
    warmup.executor.gate.set()
    assert [each.result(10) for each in waits] == [None]
    wait(lambda: warmup.lengths(["a", "b"]) == (16, 64, 128, 256, 512))
    ascending = [("a", 128), ("a", 16), ("a", 64), ("a", 256), ("a", 512)]
    assert lengths(warmup) == [("b", 512), *ascending, ("b", 128), ("b", 16), ("b", 64), ("b", 256)]
    assert sorted(warmup.executor.order) == sorted((n, *shape) for n in "ab" for shape in SHAPES)


@pytest.mark.parametrize(
    ("warmup", "tokens", "waits"),
    [
        (False, 3, []),
        (False, 100, []),
        (False, 129, [256]),
        (False, 400, [512]),
        (False, 9999, [512]),
        (True, 3, [16]),
        (True, 100, []),
    ],
    indirect=["warmup"],
)
def test_a_request_waits_for_rows_not_much_longer_than_it_is(warmup, tokens, waits):
    """Only 128 is ready; what each text is computed in must not depend on that where exact."""
    warmup.executor.gate.set()
    first = warmup.want("a")
    warmup._compile(*warmup._work.popleft())
    first.result(0)
    assert warmup.lengths(["a"]) == (128,)
    found = warmup.demand(["a"], tokens)
    assert found == [warmup._made["a", length] for length in waits]
    assert [length for _, length in list(warmup._work)[: len(waits)]] == waits


def test_rows_must_be_ready_in_all_programs_of_a_request(warmup):
    for name in "ab":
        warmup.want(name)
    warmup.executor.gate.set()
    warmup._compile("a", 256)
    assert warmup.lengths(["a"]) == (256,) and warmup.lengths(["a", "b"]) == ()
    assert warmup.demand(["a"], 200) == []
    assert [each.done() for each in warmup.demand(["a", "b"], 200)] == [True, False]


def test_a_length_that_does_not_fit_leaves_the_others(warmup):
    warmup.executor.broken = 512
    warmup.executor.gate.set()
    (waits,) = warmup.demand(["a"], 300)
    warmup.start()
    with pytest.raises(MemoryError):
        waits.result(10)
    wait(lambda: warmup.lengths(["a"]) == (16, 64, 128, 256))


def ready(engine) -> list[int]:
    """How many row lengths of each program are ready."""
    warmup = engine._warmup
    return [len(warmup.lengths([chains])) for chains in dict.fromkeys(c for c, _ in warmup._made)]


def test_health_answers_while_another_task_compiles(start, folders, monkeypatch):
    """The compiler is held; the default task and /health go on, the other task's request waits."""
    server = start([folders("mat")], warmup="some", **SHORT)
    engine = server.service.models.served[0].queue.engine
    gate, compiled = threading.Event(), engine.model.executor.compiled

    def held(key):
        if threading.current_thread().name.startswith("warm-up"):
            gate.wait(20)
        return compiled(key)

    wait(lambda: ready(engine) == [3])
    monkeypatch.setattr(engine.model.executor, "compiled", held)
    answers = []
    body = {"url": server.url + "/pooling", "json": {"input": "a", "task": "token_embed"}}
    waiting = threading.Thread(target=lambda: answers.append(httpx.post(**body, timeout=60)))
    waiting.start()
    for _ in range(3):
        assert server.client.get("/health").status_code == 200
        assert server.post("/v1/embeddings", {"input": "a"}).status_code == 200
    assert not answers
    gate.set()
    waiting.join()
    assert answers[0].status_code == 200


def test_a_start_from_a_compiled_folder(start, folders, tmp_path):
    """All programs come from there."""
    model = jaxpool.load(str(folders("mat")), **SHORT)
    serialized.save(model.executor, tmp_path, model.engine.keys())
    options = {"served_model_name": ["m"], "warmup": "all"} | SHORT
    server = start([folders("mat")], compiled=str(tmp_path), **options)
    engine = server.service.models.served[0].queue.engine
    wait(lambda: ready(engine) == [3, 3])
    assert server.post("/v1/embeddings", {"input": "a", "model": "m"}).status_code == 200
    assert engine.model.model_config.served_model_name == "m"
    assert engine.compilations == 0


@pytest.mark.parametrize(
    "name, programs", [("mat", 2), pytest.param("hybrid", 5, marks=pytest.mark.slow)]
)
def test_nothing_compiles_once_all_is_warm(start, folders, name, programs):
    """Any task, any combination in any order, late chunks, every precision, hybrid scores."""
    server = start([folders(name)], warmup="all", **SHORT)
    engine = server.service.models.served[0].queue.engine
    wait(lambda: ready(engine) == [3] * programs)
    before = engine.compilations
    rng = np.random.default_rng(0)
    names = [n for n in ("embed", "sparse", "token_embed") if n in engine.model.tasks]
    tasks = [t for count in (1, 2, 3) for t in itertools.permutations(names, count)]
    for task, count in itertools.product(tasks, (1, 2, 17, 60)):
        texts = [" ".join(["a"] * int(n)) for n in rng.integers(1, 15, count)]
        body = {"input": texts, "task": "&".join(task)}
        assert server.post("/pooling", body).status_code == 200
    late = {"task": "token_embed", "late_chunking_params": {"chunk_size": 3}}
    assert server.post("/pooling", {"input": "a few words more"} | late).status_code == 200
    kinds = ["float", "int8", "uint8", "binary", "ubinary"]
    for asked in (*([kind] for kind in kinds), kinds):
        body = {"texts": ["a", "b c"], "embedding_types": asked}
        assert server.post("/v2/embed", body).status_code == 200
    if "sparse" in names:
        body = {"text_1": "a", "text_2": ["b", "c d"], "weights": [0.4, 0.2, 0.4]}
        assert server.post("/score", body).status_code == 200
    text = server.client.get("/metrics").text
    (line,) = [line for line in text.splitlines() if line.startswith("jaxpool:compilations{")]
    assert before == engine.compilations == float(line.rpartition(" ")[2])


@pytest.mark.parametrize("warmup", ["some", "none"])
def test_the_token_budget_fits_in_memory(warmup, start, folders, monkeypatch, caplog):
    """At start already, or, where nothing is compiled then, from the first batch that does not."""

    def check(compiled, name, mesh):
        if "2 x 32" in name:
            raise MemoryError(name)

    monkeypatch.setattr(executors, "check_memory", check)
    server = start([folders("mat")], warmup=warmup, **SHORT)
    engine = server.service.models.served[0].queue.engine
    assert engine.budget == (32 if warmup == "some" else 64)
    body = {"input": ["word " * 30] * 4}
    vectors = [row["embedding"] for row in server.post("/v1/embeddings", body).json()["data"]]
    assert engine.budget == 32 and len(vectors) == 4
    np.testing.assert_allclose(vectors, vectors[:1] * 4, atol=1e-6)
    assert "max_num_batched_tokens lowered to 32: memory" in caplog.messages


def test_quantized_long_texts_need_no_program_of_their_own(start, folders):
    chunks = {"enable_chunked_processing": True}
    server = start([folders("mat")], warmup="some", pooler_config=chunks, **SHORT)
    engine = server.service.models.served[0].queue.engine
    wait(lambda: ready(engine) == [3])
    before = engine.compilations
    body = {"texts": ["word " * 100], "truncate": "NONE", "embedding_types": ["ubinary", "int8"]}
    assert server.post("/v2/embed", body).status_code == 200
    assert engine.compilations == before
