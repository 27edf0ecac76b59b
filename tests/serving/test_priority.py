"""A request of a lower priority number goes ahead of those that wait for the device."""

import http.client
import json
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest

LATER, LAST = 0, 5  # priorities
WAITING, MORE = 12, 4


def ask(port, text, priority, count=1):
    """The answer over a connection of its own, which any worker of a server may take."""
    client = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    body = {"input": [text] * count, "priority": priority, "encoding_format": "bytes_only"}
    client.request("POST", "/v1/embeddings", json.dumps(body), {"content-type": "application/json"})
    response = client.getresponse()
    assert response.status == 200 and response.read()
    client.close()


def until(done):
    begun = time.monotonic()
    while not done():
        assert time.monotonic() - begun < 30
        time.sleep(0.005)


@pytest.mark.parametrize("apart", [False, True])
def test_order_of_a_held_device(servers, monkeypatch, apart):
    """In the process of the routes, and behind the sockets of a worker."""
    server = servers("mat", apart)
    local = server.service.devices.replica.local if apart else server.service.devices
    queue, opened, lengths = local.models.served[0].queue, threading.Event(), []
    start = queue.engine.start

    def late(task, requests):
        opened.wait(30)
        lengths.extend(len(one.ids) for one in requests)
        return start(task, requests)

    monkeypatch.setattr(queue.engine, "start", late)
    port = int(server.url.rpartition(":")[2])
    with ThreadPoolExecutor(5) as threads:
        try:
            asked = [threads.submit(ask, port, "a", LAST)]
            until(lambda: queue.running)
            asked += [threads.submit(ask, port, "a b", LAST) for _ in range(3)]
            until(lambda: queue.requests == 3)
            asked.append(threads.submit(ask, port, "a b c", LATER))
            until(lambda: queue.requests == 4)
        finally:
            opened.set()
        for one in asked:
            one.result()
    assert lengths == [3, 5, 4, 4, 4]


@pytest.mark.slow
@pytest.mark.parametrize("workers", [1, 2])
def test_answers_of_processes(servers_process, workers):
    """Requests wait behind one that keeps the device, and those that come later do not."""
    options = f"--api-workers {workers} --warmup none --dtype float32 --max-num-batched-tokens 96"
    server = servers_process(*options.split(), "--enable-server-load-tracking")
    port, text = server.port, "one two three four five six seven eight nine ten " * 5
    ask(port, text, LATER)  # compiles
    answered = []

    def note(name, *given):
        ask(port, text, *given)
        answered.append(name)

    with ThreadPoolExecutor(1 + WAITING + MORE) as threads:
        asked = [threads.submit(note, "keeps", LATER - 1, 4000)]
        until(lambda: queued(server))
        asked += [threads.submit(note, "waits", LAST, 20) for _ in range(WAITING)]
        until(lambda: load(server) == 2 + WAITING)  # with the one that asks
        time.sleep(0.2)  # from the route to the queue
        assert not answered
        asked += [threads.submit(note, "overtakes", LATER, 20) for _ in range(MORE)]
        for one in asked:
            one.result()
    answered.remove("keeps")  # its answer is long, and may come after
    assert answered == ["overtakes"] * MORE + ["waits"] * WAITING


def queued(server):
    """Tokens in the queue of the device."""
    lines = httpx.get(f"{server.url}/metrics").text.splitlines()
    (line,) = (line for line in lines if line.startswith("jaxpool:queued_tokens{"))
    return float(line.rpartition(" ")[2])


def load(server):
    """Requests that a server is answering."""
    return httpx.get(f"{server.url}/load").json()["server_load"]
