"""Compiling beside serving: the device never waits for a compiler."""

import itertools
import threading
import time

import httpx
import numpy as np
import pytest

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


@pytest.fixture
def warmup():
    thread = Warmup(FakeExecutor(), [(1, 16), (1, 32), (1, 64), (2, 64)])
    yield thread
    thread.executor.gate.set()
    thread.stop()


def wait(condition):
    for _ in range(6000):
        if condition():
            return
        time.sleep(0.01)
    raise AssertionError("it does not happen")


def test_the_longest_rows_come_first_and_a_waiting_request_before_all(warmup):
    for name in "abc":
        warmup.want(name)
    demanded = warmup.demand("c")
    warmup.start()
    warmup.executor.gate.set()
    demanded.result(10)
    assert warmup.executor.order[:2] == [("c", 1, 64), ("c", 2, 64)]
    wait(lambda: warmup.lengths("c") == (16, 32, 64))
    names = [name for name, _, _ in warmup.executor.order]
    assert names == ["c"] * 2 + ["a"] * 4 + ["b"] * 4 + ["c"] * 2


def test_only_compiled_lengths_are_ready(warmup):
    warmup.start()
    usable = warmup.want("a")
    assert warmup.lengths("a") == () and not usable.done()
    warmup.executor.gate.set()
    usable.result(10)
    assert 64 in warmup.lengths("a")


def test_a_length_that_does_not_fit_leaves_the_others(warmup):
    warmup.executor.broken = 64
    warmup.executor.gate.set()
    usable = warmup.want("a")
    warmup.start()
    with pytest.raises(MemoryError):
        usable.result(10)
    wait(lambda: warmup.lengths("a") == (16, 32))


def test_health_answers_while_another_task_compiles(start, folders, monkeypatch):
    """The compiler is held; the default task and /health go on, the other task's request waits."""
    server = start([folders("mat")], warmup="some", **SHORT)
    engine = server.service.models.served[0].queue.engine
    gate, compiled = threading.Event(), engine.model.executor.compiled

    def held(key):
        if threading.current_thread().name == "warm-up":
            gate.wait(20)
        return compiled(key)

    wait(lambda: [len(ready) for ready in engine._warmup._ready.values()] == [3])
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


@pytest.mark.parametrize("name, programs", [("mat", 2), ("hybrid", 5)])
def test_nothing_compiles_once_all_is_warm(start, folders, name, programs):
    """Any task, any combination in any order, late chunks, every precision, hybrid scores."""
    server = start([folders(name)], warmup="all", **SHORT)
    engine = server.service.models.served[0].queue.engine
    ready = engine._warmup._ready
    wait(lambda: [len(lengths) for lengths in ready.values()] == [3] * programs)
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


def test_quantized_long_texts_need_no_program_of_their_own(start, folders):
    chunks = {"enable_chunked_processing": True}
    server = start([folders("mat")], warmup="some", pooler_config=chunks, **SHORT)
    engine = server.service.models.served[0].queue.engine
    wait(lambda: [len(ready) for ready in engine._warmup._ready.values()] == [3])
    before = engine.compilations
    body = {"texts": ["word " * 100], "truncate": "NONE", "embedding_types": ["ubinary", "int8"]}
    assert server.post("/v2/embed", body).status_code == 200
    assert engine.compilations == before
