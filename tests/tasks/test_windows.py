"""Many prompts in one call: windows of them are tokenized while others are computed."""

import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from jaxpool import PoolingParams, offline
from jaxpool.engine.engine import Engine
from tests.small import TEXTS, vectors

MANY = [f"{text} number {number}" for number in range(4) for text in TEXTS]
WAIT = 30  # seconds after which what does not come never will


@pytest.fixture
def windows(monkeypatch):
    """Small windows; what happens to each, in order, and a gate before the first result."""
    happened, gate = [], threading.Event()
    prepare, run = offline.prepare, Engine.run

    def spy_prepare(model, task, prompts, *rest, **options):
        happened.append(("tokenized", len(prompts)))
        if happened.count(("tokenized", len(prompts))) > 1:
            gate.set()
        return prepare(model, task, prompts, *rest, **options)

    def spy_run(self, task, requests):
        happened.append(("computed", len(requests)))
        for result in run(self, task, requests):
            assert gate.wait(WAIT), "nothing is tokenized while a window is computed"
            yield result

    monkeypatch.setattr(offline, "WINDOW", 7)
    monkeypatch.setattr(offline, "prepare", spy_prepare)
    monkeypatch.setattr(Engine, "run", spy_run)
    return happened


def test_the_next_window_is_tokenized_while_one_is_computed(windows, bert_llm):
    bars = []

    class Bar:
        def __init__(self, total, **_):
            self.total, self.done, self.closed = total, 0, False
            bars.append(self)

        def update(self):
            self.done += 1

        def close(self):
            self.closed = True

    assert len(MANY) == 20
    outputs = bert_llm.embed(MANY, use_tqdm=Bar)
    assert sorted(windows) == [("computed", 6)] + 2 * [("computed", 7)] + [("tokenized", 6)] + 2 * [
        ("tokenized", 7)
    ]
    assert [output.request_id for output in outputs] == [str(i) for i in range(20)]
    ids = bert_llm.get_tokenizer()(MANY)["input_ids"]
    assert [output.prompt_token_ids for output in outputs] == ids
    (bar,) = bars
    assert (bar.total, bar.done, bar.closed) == (20, 20, True)


def test_vectors_are_those_of_one_window(windows, bert_llm, monkeypatch):
    params = [PoolingParams(use_activation=number % 3 > 0) for number in range(len(MANY))]
    several = vectors(bert_llm, MANY, pooling_params=params)
    encoded = bert_llm.model.encode(MANY)
    monkeypatch.setattr(offline, "WINDOW", len(MANY))
    np.testing.assert_allclose(several, vectors(bert_llm, MANY, pooling_params=params), atol=1e-5)
    np.testing.assert_allclose(encoded, bert_llm.model.encode(MANY), atol=1e-5)


def test_a_refused_prompt_ends_the_call_at_once(windows, bert_llm, monkeypatch):
    pools, collect = [], offline.collect

    class Pool(ThreadPoolExecutor):
        def __init__(self, *options):
            super().__init__(*options)
            pools.append(self)

    def slowly(model, task, requests, done):
        def held():
            pools[-1].submit(int).result(WAIT)  # when all windows are tokenized
            done()

        return collect(model, task, requests, held)

    monkeypatch.setattr(offline, "ThreadPoolExecutor", Pool)
    monkeypatch.setattr(offline, "collect", slowly)
    with pytest.raises(ValueError, match="maximum context length is 64 tokens"):
        bert_llm.embed([*MANY, "long " * 100], use_tqdm=False)
    assert windows.count(("computed", 7)) == 1


def test_parameters_are_counted_before(windows, bert_llm):
    with pytest.raises(ValueError, match=r"prompts \(20\) and params \(19\) must be the same"):
        bert_llm.embed(MANY, pooling_params=[PoolingParams()] * 19, use_tqdm=False)
    assert not windows


def test_a_stream_is_read_one_window_ahead(windows, bert_llm):
    model, read = bert_llm.model, []

    def chunks():
        for start in range(0, len(MANY), 5):
            read.append(start)
            yield MANY[start : start + 5]

    stream, found = offline.stream(model, model.task("embed"), chunks()), []
    for number, results in enumerate(stream, start=1):
        assert read == [0, 5, 10, 15][: number + 1]
        found += results
    np.testing.assert_allclose(found, vectors(bert_llm, MANY), atol=1e-5)
