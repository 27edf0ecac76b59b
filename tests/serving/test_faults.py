"""What happens when something goes wrong: clients, bodies, weights, the device thread."""

import asyncio
import itertools
import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import httpx
import jax
import numpy as np
import pytest

from benchmarks.http_load import closed_loop, request

TEXT = "The capital of France is Paris."


def status(server, **options):
    return server.client.post("/v1/embeddings", **options).status_code


@pytest.fixture
def hold(monkeypatch):
    """Make a server's engine wait in its next batch until the returned event is set."""
    gates = []

    def holding(server):
        engine, gate, inside = (
            server.service.models.served[0].queue.engine,
            *(threading.Event() for _ in range(2)),
        )
        finish = engine.finish

        def wait(started):
            inside.set()
            gate.wait(20)
            return finish(started)

        monkeypatch.setattr(engine, "finish", wait)
        gates.append(gate)
        return gate, inside

    yield holding
    for gate in gates:
        gate.set()


def test_a_killed_device_thread_ends_health_and_every_request(start, folders):
    server = start([folders("mat")])
    assert server.client.get("/health").status_code == 200

    def die():
        raise SystemExit

    async def kill():
        await server.service.devices.owner.call(die)

    with pytest.raises(Exception, match="dead"):
        asyncio.run(kill())
    server.service.devices.owner.join(5)
    begun = time.monotonic()
    assert server.client.get("/health").status_code == 503
    assert status(server, json={"input": TEXT}) == 503
    assert time.monotonic() - begun < 5


def test_a_stuck_device_fails_health_within_five_seconds(start, folders, hold):
    server = start([folders("mat")], health_timeout=0.5)
    gate, inside = hold(server)
    request = {"url": server.url + "/pooling", "json": {"input": "a"}, "timeout": 30}
    waiting = threading.Thread(target=httpx.post, kwargs=request)
    waiting.start()
    inside.wait(10)
    begun = time.monotonic()
    assert server.client.get("/health").status_code == 503
    assert time.monotonic() - begun < 5
    gate.set()
    waiting.join()
    assert server.client.get("/health").status_code == 200


def test_nan_weights_fail_requests_and_not_the_server(start, folders):
    server = start([folders("mat")])
    engine = server.service.models.served[0].queue.engine
    executor, good = engine.model.executor, engine.model.executor.params
    executor.params = jax.tree.map(lambda leaf: leaf * np.float32("nan"), good)
    response = server.post("/v1/embeddings", {"input": [TEXT, "cat"]})
    assert response.status_code == 500 and "not finite" in response.json()["message"]
    response = server.post("/v2/embed", {"texts": [TEXT, "cat"], "embedding_types": ["ubinary"]})
    assert response.status_code == 500 and "not finite" in response.json()["message"]
    executor.params = good
    assert status(server, json={"input": TEXT}) == 200
    assert server.client.get("/health").status_code == 200


def test_a_client_that_leaves_takes_its_work_with_it(start, folders, hold, caplog):
    """And no error is logged: clients do that."""
    server = start([folders("mat")])
    queue = server.service.models.served[0].queue
    gate, inside = hold(server)

    async def go():
        async with httpx.AsyncClient(base_url=server.url, timeout=30) as client:
            first = asyncio.create_task(client.post("/pooling", json={"input": TEXT}))
            await asyncio.to_thread(inside.wait, 10)
            leaving = asyncio.create_task(client.post("/pooling", json={"input": ["a"] * 500}))
            await until(lambda: queue.requests == 500)
            leaving.cancel()
            await until(lambda: queue.requests == 0)
            gate.set()
            assert (await first).status_code == 200

    asyncio.run(go())
    assert queue.tokens == 0
    assert not [record for record in caplog.records if record.levelname == "ERROR"]


async def until(condition):
    for _ in range(1000):
        if condition():
            return
        await asyncio.sleep(0.01)
    raise AssertionError("it does not happen")


def test_ten_thousand_requests_into_a_full_queue(start, folders, hold):
    """Every one is answered, 200 or 429, and those refused are told when to come back."""
    server = start([folders("mat")], max_queued_tokens=1000)
    gate, inside = hold(server)
    port = int(server.url.rpartition(":")[2])
    body = {"input": TEXT, "encoding_format": "base64"}
    answers = []

    def collect(answer):
        answers.append((answer.status, answer.headers.get("retry-after")))
        if len(answers) == 5000:
            gate.set()

    requests = itertools.repeat(request("/v1/embeddings", body), 10_000)
    with ThreadPoolExecutor(1) as pool:
        first = pool.submit(server.client.post, "/v1/embeddings", json=body)
        assert inside.wait(10)  # the device is held: of all that comes now no batch begins
        asyncio.run(closed_loop(port, 256, requests, collect))
        assert first.result().status_code == 200
    assert len(answers) == 10_000
    assert {status for status, _ in answers} == {200, 429}
    assert all((status == 429) == (wait is not None and int(wait) >= 1) for status, wait in answers)
    assert server.service.models.served[0].queue.requests == 0
    refused = [status for status, _ in answers if status == 429]
    counted = 'vllm:admission_rejections_total{model_name="m",reason="queue"} '
    (line,) = [x for x in server.client.get("/metrics").text.splitlines() if x.startswith(counted)]
    assert float(line.removeprefix(counted)) == len(refused)


def test_a_slow_loris_is_disconnected(servers_process):
    server = servers_process("--request-read-timeout", "1")
    begun = time.monotonic()
    with (
        socket.create_connection(("127.0.0.1", server.port)) as head,
        socket.create_connection(("127.0.0.1", server.port)) as body,
    ):
        head.sendall(b"POST /v1/embeddings HTTP/1.1\r\nHost: x\r\n")
        body.sendall(
            b"POST /v1/embeddings HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
            b"Content-Length: 100\r\n\r\n{"
        )
        head.settimeout(10)
        body.settimeout(10)
        assert head.recv(1000) == b""
        assert b"408" in body.recv(1000)
    assert time.monotonic() - begun < 8


def test_a_body_of_100_mb_is_refused(servers):
    server = servers("minilm")
    kind = {"content-type": "application/json"}

    def chunks():
        yield b'{"input": "'
        for _ in range(100):
            yield b"a" * 1_000_000
        yield b'"}'

    assert status(server, content=b"a" * 100_000_000, headers=kind) == 413
    try:
        assert status(server, content=chunks(), headers=kind) == 413
    except httpx.WriteError:  # the server has closed before all was sent
        pass
    assert status(server, json={"input": TEXT}) == 200


def test_a_large_batch_is_split_and_rejoined(servers):
    texts = [f"text {i % 50}" for i in range(1500)]
    data = servers("mat").post("/v1/embeddings", {"input": texts}).json()["data"]
    assert [one["index"] for one in data] == list(range(1500))
    vectors = np.array([one["embedding"] for one in data])
    np.testing.assert_allclose(vectors, np.tile(vectors[:50], (30, 1)), atol=1e-5)
