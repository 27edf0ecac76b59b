"""A server of several processes answers as one does, and outlives those of them that end."""

import asyncio
import collections
import itertools
import os
import re
import signal
import socket
import stat
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import httpx
import numpy as np
import pytest
from adapters import adapter

from benchmarks.http_load import closed_loop, request

# peft warns about a method of transformers that it reads.
pytestmark = pytest.mark.filterwarnings("ignore:.is_gradient_checkpointing:FutureWarning")

TEXTS = ["a cat sat on the mat", "the house is big and red", "trees", "what is a hash table?"]
HEADERS = {"authorization": "Bearer k"}
MANY = ["one two three four five six seven eight nine ten " * 5] * 1000  # keeps a device busy
BODIES = [
    ("/v1/embeddings", {"input": TEXTS}),
    ("/v1/embeddings", {"input": "a cat", "encoding_format": "base64", "dimensions": 8}),
    ("/v1/embeddings", {"input": [[101, 7592, 102]], "encoding_format": "bytes"}),
    ("/v1/embeddings", {"input": 5}),
    ("/v1/embeddings", {"input": "word " * 300}),
    ("/pooling", {"input": TEXTS, "task": "embed&token_embed"}),
    ("/pooling", {"input": TEXTS, "task": "token_embed"}),
    (
        "/pooling",
        {"input": TEXTS[:2], "task": "token_embed", "late_chunking_params": {"chunk_size": 3}},
    ),
    ("/pooling", {"input": "a", "task": "classify"}),
    ("/v2/embed", {"texts": TEXTS, "embedding_types": ["int8", "float", "ubinary"]}),
    ("/score", {"text_1": "a cat", "text_2": TEXTS}),
    ("/rerank", {"query": "a cat", "documents": TEXTS, "top_n": 2}),
    ("/tokenize", {"prompt": "a cat", "return_token_strs": True}),
    ("/tokenize", {"inputs": TEXTS}),
    ("/detokenize", {"tokens": [101, 7592, 102]}),
    ("/embed", {"inputs": TEXTS}),
    ("/similarity", {"inputs": {"source_sentence": "a", "sentences": TEXTS}}),
    ("/invocations", {"input": TEXTS}),
    ("/classify", {"input": "a"}),
]


@pytest.fixture(scope="module")
def server(fleet):
    """The fleet when all of its processes answer."""
    until(lambda: engines(fleet) == {"0", "1"} and len(processes(fleet)) == 4)
    return fleet


def until(done, seconds=60):
    begun = time.monotonic()
    while not done():
        assert time.monotonic() - begun < seconds
        time.sleep(0.05)


def ask(server, path, body=None, timeout=60, **headers):
    """The answer over a connection of its own, which any worker may have."""
    with httpx.Client(headers=HEADERS | headers, timeout=timeout) as client:
        if body is None:
            return client.get(server.url + path)
        return client.post(server.url + path, json=body)


def metrics(server):
    """The values of a metrics page by the name and labels of each."""
    text = ask(server, "/metrics").text
    return {
        name: float(value)
        for name, _, value in (
            line.rpartition(" ") for line in text.splitlines() if not line.startswith("#")
        )
    }


def engines(server):
    """The replicas that a worker sees."""
    try:
        found = metrics(server)
    except httpx.TransportError:
        return set()
    names = (re.search('compilations{engine="(.)"', name) for name in found)
    return {match[1] for match in names if match}


def processes(server):
    """The process of each name, by the log."""
    return dict(re.findall(r"\] (\S+-\d) is process (\d+)", server.log.read_text()))


def send(server, number, *names):
    for name in names:
        os.kill(int(processes(server)[name]), number)


def vectors(server, model="m"):
    answer = ask(server, "/v1/embeddings", {"input": TEXTS, "model": model})
    assert answer.status_code == 200, answer.text
    return np.array([one["embedding"] for one in answer.json()["data"]])


def comparable(answer):
    """An answer without what differs from one to the next."""
    if answer.headers["content-type"] != "application/json":
        metadata = re.sub('"(id|created)":"?[^",]*"?,?', "", answer.headers.get("metadata", ""))
        return answer.status_code, np.frombuffer(answer.content, np.float32), metadata
    body = answer.json()
    if isinstance(body, dict):
        body = {name: value for name, value in body.items() if name not in ("id", "created")}
    return answer.status_code, body, answer.headers.get("x-tokens")


def assert_alike(a, b, where):
    """Equal, numbers nearly so."""
    if isinstance(a, dict):
        assert a.keys() == b.keys(), where
        for key in a:
            assert_alike(a[key], b[key], (*where, key))
    elif isinstance(a, list | tuple):
        assert len(a) == len(b), where
        for index, pair in enumerate(zip(a, b, strict=True)):
            assert_alike(*pair, (*where, index))
    elif isinstance(a, float | np.ndarray):
        np.testing.assert_allclose(a, b, atol=1e-5, err_msg=str(where))
    else:
        assert a == b, where


@contextmanager
def load(server, clients=8):
    """Clients that ask without end; the statuses of the answers, by client."""
    statuses = collections.Counter()
    ending = threading.Event()

    def client():
        while not ending.is_set():
            with httpx.Client(headers=HEADERS, timeout=60) as http:
                try:
                    while not ending.is_set():
                        answer = http.post(server.url + "/v1/embeddings", json={"input": TEXTS})
                        statuses[answer.status_code] += 1
                except httpx.TransportError:
                    statuses["lost"] += 1

    with ThreadPoolExecutor(clients) as threads:
        running = [threads.submit(client) for _ in range(clients)]
        try:
            yield statuses
        finally:
            ending.set()
        for one in running:
            one.result()


def test_every_route_answers_as_one_process_does(server, servers):
    for path, body in BODIES:
        wanted = servers("mat").post(path, body | {"model": "mat"} if "model" in body else body)
        found = ask(server, path, body)
        alike = (comparable(one) for one in (wanted, found))
        first, second = (str_named(one) for one in alike)
        assert_alike(first, second, (path, str(body)[:60]))


def str_named(comparable):
    """The same with one name for the model, whichever it has there."""
    status, body, more = comparable
    if isinstance(body, dict) and "model" in body:
        body = body | {"model": "m"}
    return status, body, more.replace('"mat"', '"m"') if isinstance(more, str) else more


def test_the_models_page_is_the_same_in_every_worker(server):
    cards = [ask(server, "/v1/models").json()["data"] for _ in range(6)]
    for card in (one for page in cards for one in page):
        del card["permission"]
    assert all(page == cards[0] for page in cards) and cards[0][0]["fingerprint"]


def test_the_folder_of_the_sockets_is_for_its_owner_alone(server):
    maps = Path(f"/proc/{processes(server)['replica-0']}/maps").read_text()
    (board,) = set(re.findall(r"/\S+/jaxpool-\w+/board", maps))
    folder = Path(board).parent
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert {one.name for one in folder.glob("*.sock")} == {"0.sock", "1.sock"}
    assert len(set(re.findall("memfd:jaxpool", maps))) == 1  # the other memory has no name


def test_metrics_are_one_page_for_all(server):
    name = 'http_requests_total{handler="/similarity",method="POST",status="2xx"}'
    before = metrics(server).get(name, 0)
    for _ in range(10):
        body = {"inputs": {"source_sentence": "a", "sentences": ["b"]}}
        assert ask(server, "/similarity", body).status_code == 200
    pages = [metrics(server) for _ in range(4)]
    assert {page[name] for page in pages} == {before + 10}
    named = {name.split('"')[1] for name in pages[0] if name.startswith("process_open_fds")}
    assert named == {"supervisor", "worker-0", "worker-1", "replica-0", "replica-1"}
    assert ask(server, "/load").json() == {"server_load": 1}


def test_a_full_queue_refuses_whichever_worker_is_asked(server):
    answers = []
    body = request("/v1/embeddings", {"input": TEXTS}, Authorization="Bearer k")
    name = 'vllm:admission_rejections_total{model_name="m",reason="queue"}'
    before = metrics(server).get(name, 0)
    asyncio.run(closed_loop(server.port, 96, itertools.repeat(body, 300), answers.append))
    assert {one.status for one in answers} == {200, 429}
    refused = [int(one.headers["retry-after"]) for one in answers if one.status == 429]
    assert min(refused) >= 1 and metrics(server)[name] == before + len(refused)


@pytest.mark.slow
def test_a_client_that_leaves_takes_its_work_along(server):
    name = 'vllm:request_success_total{engine="0",finished_reason="abort",model_name="m"}'

    def queued():
        page = metrics(server)
        names = [f'jaxpool:queued_tokens{{engine="{i}",model_name="m"}}' for i in range(2)]
        return sum(map(page.get, names)) if page.keys() >= set(names) else -1

    before = metrics(server).get(name, 0)
    with socket.create_connection(("127.0.0.1", server.port)) as client:
        body = {"input": MANY * 8}
        client.sendall(request("/v1/embeddings", body, Authorization="Bearer k"))
        until(lambda: queued() > 100_000)
        send(server, signal.SIGSTOP, "replica-0", "replica-1")
    until(lambda: metrics(server).get(name, 0) == before + 1)
    send(server, signal.SIGCONT, "replica-0", "replica-1")
    until(lambda: queued() == 0, 2)


def test_a_deadline_is_that_of_all(server):
    late = ask(server, "/v1/embeddings", {"input": "a"}, **{"x-request-timeout": "0.000001"})
    assert late.status_code in (429, 504)
    assert "deadline" in late.json()["message"]


@pytest.mark.slow
def test_adapters_are_loaded_everywhere_and_kept_by_a_replica_that_is_replaced(
    server, folders, tmp_path
):
    adapter(folders("mat"), tmp_path / "law", ["query", "output.dense"], 4, 0)
    loaded = {"lora_name": "law", "lora_path": str(tmp_path / "law")}
    assert ask(server, "/v1/load_lora_adapter", loaded).status_code == 200
    assert ask(server, "/v1/load_lora_adapter", loaded).status_code == 400
    plain, wanted = vectors(server), vectors(server, "law")
    assert np.abs(plain - wanted).max() > 1e-2
    send(server, signal.SIGKILL, "replica-0")
    with load(server, 4) as statuses:
        until(lambda: engines(server) == {"1"}, 5)
        np.testing.assert_allclose(vectors(server, "law"), wanted, atol=1e-5)
        until(lambda: engines(server) == {"0", "1"})
        for _ in range(8):
            np.testing.assert_allclose(vectors(server, "law"), wanted, atol=1e-5)
    assert statuses[200] > 10 and statuses[503] <= 4 and set(statuses) <= {200, 503}
    assert ask(server, "/v1/unload_lora_adapter", {"lora_name": "law"}).status_code == 200
    answers = [ask(server, "/v1/embeddings", {"input": "a", "model": "law"}) for _ in range(6)]
    assert {one.status_code for one in answers} == {404}


def test_a_worker_that_is_killed_takes_only_its_own_requests_along(server):
    before = metrics(server)
    with load(server) as statuses:
        until(lambda: statuses[200] > 40)
        send(server, signal.SIGKILL, "worker-0")
        seen = statuses[200]
        until(lambda: server.log.read_text().count("worker-0 is process") == 2)
        until(lambda: statuses[200] > seen + 40)
    assert statuses["lost"] <= 8 and set(statuses) <= {200, "lost"}
    name = 'http_requests_total{handler="/v1/embeddings",method="POST",status="2xx"}'
    # Nothing is forgotten but what the worker had answered and was yet to count.
    assert metrics(server)[name] >= before[name] + statuses[200] - 8
    assert {ask(server, "/health").status_code for _ in range(6)} == {200}


def test_a_drained_server_answers_what_it_has_and_leaves_nothing(server):
    body = {"input": MANY * 4}
    with ThreadPoolExecutor(2) as threads:
        asked = [threads.submit(ask, server, "/v1/embeddings", body) for _ in range(2)]
        until(lambda: ask(server, "/load").json()["server_load"] == 3)
        server.process.send_signal(signal.SIGTERM)
        assert server.process.wait(30) == 0
        assert [one.result().status_code for one in asked] == [200, 200]
    for pid in processes(server).values():
        assert not os.path.exists(f"/proc/{pid}")
