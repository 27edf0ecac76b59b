"""Servers of several processes for minutes, at their ends, and with every kind of model."""

import base64
import collections
import io
import os
import random
import signal
import threading
import time
from types import SimpleNamespace

import httpx
import numpy as np
import pytest
from PIL import Image
from test_fuzz import MANY, fuzz
from test_workers import (
    ask,
    assert_alike,
    comparable,
    engines,
    load,
    processes,
    send,
    str_named,
    until,
)

TWO = ("--api-workers", "2", "--warmup", "none", "--dtype", "float32")
SOAK, CLIENTS = 600, 64  # seconds
TEXTS = ["a cat", "the house is big and red", "trees"]
PAIRS = {"text_1": "a cat", "text_2": TEXTS}
BODIES = {
    "cls": [("/classify", {"input": TEXTS}), ("/predict", {"inputs": "a cat"})],
    "ce": [("/score", PAIRS), ("/rerank", {"query": "a cat", "documents": TEXTS})],
    "templated": [("/score", PAIRS)],
    "tok": [("/pooling", {"input": TEXTS})],
    "multi": [("/classify", {"input": TEXTS})],
    "splade": [("/pooling", {"input": TEXTS}), ("/embed_sparse", {"inputs": TEXTS})],
    "hybrid": [
        ("/pooling", {"input": TEXTS, "task": "embed&sparse&token_embed"}),
        ("/score", PAIRS | {"weights": [0.4, 0.2, 0.4]}),
    ],
    "colbert": [("/pooling", {"input": TEXTS}), ("/score", PAIRS)],
    "marked": [("/pooling", {"input": TEXTS, "input_type": "query"}), ("/score", PAIRS)],
    "chunk": [("/v1/embeddings", {"input": ["word " * 700, "a cat"]})],
}

slow = pytest.mark.slow


@slow
@pytest.mark.parametrize("name", BODIES)
def test_every_kind_of_model_answers_the_same_from_another_process(servers, name):
    for path, body in BODIES[name]:
        found = [comparable(servers(name, apart).post(path, body)) for apart in (False, True)]
        assert found[0][0] == 200, found[0]
        assert_alike(*map(str_named, found), (path,))


def test_pictures_come_through_shared_memory(servers):
    made = Image.fromarray(np.random.default_rng(0).integers(0, 255, (40, 50, 3), np.uint8))
    file = io.BytesIO()
    made.save(file, "png")
    url = "data:image/png;base64," + base64.b64encode(file.getvalue()).decode()
    body = {"input": [{"image": url}, {"text": "a cat"}]}
    found = [comparable(servers("clip", apart).post("/v1/embeddings", body)) for apart in (0, 1)]
    assert found[0][0] == 200, found[0]
    assert_alike(*found, ())


@slow
def test_bodies_of_all_kinds_are_no_server_errors(servers_process):
    server = servers_process(*TWO, "--replicas", "2")
    with httpx.Client(base_url=server.url, timeout=60) as client:
        fuzz(SimpleNamespace(client=client, url=server.url), MANY // 3)


@slow
def test_minutes_of_load_in_which_processes_are_killed(servers_process):
    """Only requests that a killed process had are lost; memory stays; every text has one vector."""
    server = servers_process(*TWO, "--replicas", "2", "--served-model-name", "m")
    rng, failed = random.Random(0), collections.Counter()
    with load(server, CLIENTS) as statuses:
        begun = time.monotonic()
        while time.monotonic() < begun + SOAK:
            time.sleep(SOAK / 20)
            name = rng.choice(["worker-0", "worker-1", "replica-0", "replica-1"])
            send(server, signal.SIGKILL, name)
            failed[name.partition("-")[0]] += 1
            count = server.log.read_text().count(f"{name} is process")
            until(lambda n=name, c=count: server.log.read_text().count(f"{n} is process") > c)
            until(lambda: engines(server) == {"0", "1"}, 300)  # one replica serves at any time
            assert ask(server, "/health").status_code == 200
    assert set(statuses) <= {200, 503, "lost"} and statuses[200] > 1000
    assert statuses["lost"] <= CLIENTS * failed["worker"]
    assert statuses[503] <= CLIENTS * failed["replica"]
    server.process.send_signal(signal.SIGTERM)
    assert server.process.wait(60) == 0


@slow
def test_the_end_of_the_only_device_process_is_that_of_the_server(servers_process):
    server = servers_process(*TWO)
    send(server, signal.SIGKILL, "replica-0")
    assert server.process.wait(30) == 1
    assert "the server ends: replica-0 ended by SIGKILL" in server.log.read_text()
    until(lambda: not any(os.path.exists(f"/proc/{p}") for p in processes(server).values()), 10)


@slow
def test_a_model_that_cannot_be_loaded_ends_the_server_with_the_reason(servers_process, tmp_path):
    server = servers_process(*TWO, model=str(tmp_path / "nothing"), wait=False)
    assert server.process.wait(60) == 1
    (line,) = [x for x in server.log.read_text().splitlines() if "the server ends" in x]
    assert "nothing" in line


@slow
def test_no_process_outlives_the_one_that_started_it(servers_process):
    server = servers_process(*TWO)
    server.process.kill()
    until(lambda: not any(os.path.exists(f"/proc/{p}") for p in processes(server).values()), 20)


@slow
def test_a_unix_socket_and_a_taken_port(servers_process, tmp_path):
    path = tmp_path / "socket"
    servers_process(*TWO, "--uds", str(path), wait=False)
    until(path.exists)
    over = {"transport": httpx.HTTPTransport(uds=str(path)), "timeout": 60}
    with httpx.Client(base_url="http://x", **over) as client:
        until(lambda: client.get("/health").status_code == 200)
        assert client.post("/v1/embeddings", json={"input": "a"}).status_code == 200
    other = servers_process(*TWO, wait=False)
    other.until_listening()
    third = servers_process(*TWO, "--port", str(other.port), wait=False)
    assert third.process.wait(30) == 1 and "cannot listen" in third.log.read_text()


@slow
def test_batches_are_answered_once_by_some_worker(servers_process, tmp_path):
    server = servers_process(*TWO, "--batch-folder", str(tmp_path / "files"))
    body = '{"custom_id": "%d", "method": "POST", "url": "/v1/embeddings", "body": {"input": "a"}}'
    lines = "\n".join(body % i for i in range(200)).encode()
    found = []

    def one():
        with httpx.Client(base_url=server.url, timeout=60) as client:
            file = {"file": ("a.jsonl", lines)}
            name = client.post("/v1/files", files=file, data={"purpose": "batch"}).json()["id"]
            asked = {"input_file_id": name, "endpoint": "/v1/embeddings"}
            made = client.post("/v1/batches", json=asked | {"completion_window": "24h"}).json()
            until(lambda: client.get(f"/v1/batches/{made['id']}").json()["status"] == "completed")
            found.append(client.get(f"/v1/batches/{made['id']}").json()["request_counts"])

    threads = [threading.Thread(target=one) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [{"total": 200, "completed": 200, "failed": 0}] * 4
