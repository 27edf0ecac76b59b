"""Bodies of strangers: a server of its own answers each in time, and /health within a second."""

import asyncio
import json
import os
import shutil
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import httpx
import pytest
from security import test_templates as templates
from security import tiny
from security.jail import MEMORY, SECONDS, environment

from serving import service
from serving.app import create_app
from serving.config import Options
from serving.lines import call

HEALTH = 1.0  # seconds
MIB, DEEP = 1 << 20, 10**5


class Server:
    """`jaxpool serve`, with templates of requests, and what is measured of it."""

    def __init__(self, model: Path, log: Path):
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        command = [sys.executable, "-m", "jaxpool.cli", "serve", str(model), "--port", str(port)]
        options = ["--host", "127.0.0.1", "--trust-request-chat-template", "--warmup", "none"]
        with log.open("wb") as sink:
            self.process = subprocess.Popen(
                [*command, *options], stdout=sink, stderr=sink, env=environment()
            )
        self.client = httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=SECONDS)
        self.log = log

    def __enter__(self):
        try:
            self._until_ready()
        except BaseException:
            self.__exit__()
            raise
        self.memory = self.peak
        return self

    def __exit__(self, *error):
        self.client.close()
        self.process.kill()
        self.process.wait()

    def _until_ready(self) -> None:
        for _ in range(1200):
            try:
                if self.client.get("/health").status_code == 200:
                    return
            except httpx.ConnectError:
                assert self.process.poll() is None, self.log.read_text()
            time.sleep(0.1)
        raise AssertionError(self.log.read_text())

    @property
    def peak(self) -> int:
        """Most bytes of memory it has had."""
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        return int(status.split("VmHWM:")[1].split()[0]) * 1024

    def post(self, path: str, body: bytes) -> httpx.Response:
        return self.client.post(path, content=body, headers={"content-type": "application/json"})


@pytest.fixture(scope="session")
def server(good, tmp_path_factory):
    with Server(good, tmp_path_factory.mktemp("server") / "log") as made:
        yield made


def filled(value: bytes, size: int = 8 * MIB, head: bytes = b'{"input":[') -> bytes:
    """A body of one value as often as there is room."""
    return head + (value + b",") * (size // (len(value) + 1)) + value + b"]}"


def json_of(**fields) -> bytes:
    return json.dumps(fields).encode()


BODIES = {
    "empty": b"",
    "null": b"null",
    "nan": b'{"input":"a","dimensions":NaN}',
    "infinity": b'{"input":[[1e999]]}',
    "number": b"1" * 5000,
    "long number": b'{"input":[' + b"1" * 5000 + b"]}",
    "long float": b'{"input":[1.' + b"1" * MIB + b"]}",
    "deep lists": b'{"input":' + b"[" * DEEP + b"]" * DEEP + b"}",
    "deep objects": b'{"input":' + b'{"a":' * DEEP + b"1" + b"}" * DEEP + b"}",
    "open lists": b"[" * MIB,
    "no utf-8": b'{"input":"\xff\xfe"}',
    "surrogate": b'{"input":"\\ud800"}',
    "utf-16": '{"input":"a"}'.encode("utf-16"),
    "utf-32": '{"input":"a"}'.encode("utf-32"),
    "zeros": bytes(MIB),
    "objects": filled(b"{}"),
    "lists": filled(b"[]"),
    "lists of lists": filled(b"[[]]"),
    "nulls": filled(b"null"),
    "floats": filled(b"1.5"),
    "booleans": filled(b"true"),
    "texts": filled(b'"a"'),
    "tokens": filled(b"1"),
    "rows of tokens": filled(b"[1,1]"),
    "messages": filled(b'{"role":"a"}', head=b'{"messages":['),
    "parts": filled(b'{"type":"text"}', head=b'{"messages":[{"role":"user","content":['),
    "keys": b'{"input":"a"' + b"".join(b',"%d":1' % i for i in range(MIB)) + b"}",
    "one key": b'{"input":"a"' + b',"input":"a"' * MIB + b"}",
    "long text": json_of(input="a" * (16 * MIB)),
    "long word": json_of(input=["a b " * (2 * MIB)]),
    "marks": json_of(input="\u0301" * (2 * MIB)),
    "spaces": json_of(input=" " * (8 * MIB)),
    "too large": b" " * (33 * MIB),
    "padding": b'{"input":"a","padding":"max_length","pad_prompt_tokens":1000000000}',
    "truncation": b'{"input":"a","truncate_prompt_tokens":1000000000000}',
    "dimensions": b'{"input":"a","dimensions":1000000000000}',
    "priority": b'{"input":"a","priority":1e400}',
    "model": json_of(input="a", model="../" * MIB),
    "encoding": json_of(input="a", encoding_format="a" * MIB),
    "token": b'{"input":[[100000000000000000000]]}',
    "id": json_of(input="a", request_id="\r\nx: y" * 999),
}
ROUTES = (
    "/v1/embeddings",
    "/pooling",
    "/rerank",
    "/tokenize",
    "/v2/embed",
    "/embed",
    "/invocations",
)
SMALL = ["null", "nan", "deep lists", "objects", "nulls", "keys", "long number", "surrogate"]
CASES = [("/v1/embeddings", name) for name in BODIES]
CASES += [(route, name) for route in ROUTES[1:] for name in SMALL]


def check(server, began: float) -> None:
    """The server still answers at once, and has not taken more than it may."""
    assert time.monotonic() - began < SECONDS
    assert server.client.get("/health", timeout=HEALTH * 5).status_code == 200
    assert server.peak < server.memory + MEMORY


@pytest.mark.parametrize(("route", "name"), CASES)
def test_a_body_is_answered(server, route, name):
    began = time.monotonic()
    response = server.post(route, BODIES[name])
    assert response.status_code < 500, response.text[:300]
    assert len(response.content) < MIB, "an answer to a hostile body is short"
    check(server, began)


@pytest.mark.parametrize("route", ["/v1/embeddings", "/tokenize"])
@pytest.mark.parametrize("name", ["times", "class", "doubled", "block"])
def test_a_template_of_a_request_is_refused(server, route, name):
    template = (templates.SLOW | templates.LARGE | templates.WRONG)[name]
    messages, began = [{"role": "user", "content": "hello"}], time.monotonic()
    response = server.post(route, json_of(messages=messages, chat_template=template))
    assert response.status_code == 400 and "chat template: " in response.text
    check(server, began)


@pytest.mark.parametrize(
    "kwargs",
    [{"messages": 1}, {"self": 1}, {"template": ""}, {"conversations": []}, {"tokenize": True}],
    ids=repr,
)
def test_variables_of_a_request_are_no_arguments(server, kwargs):
    body = {"messages": [{"role": "user", "content": "hello"}], "chat_template_kwargs": kwargs}
    response = server.post("/v1/embeddings", json_of(chat_template="hello", **body))
    assert response.status_code in (200, 400), response.text[:300]


def test_health_answers_within_a_second_under_attack(server):
    """Templates without end, long texts and odd bodies at once; /health and a text beside them."""
    messages = [{"role": "user", "content": "hello"}]
    slow = json_of(messages=messages, chat_template=templates.LOOP)
    bodies = [slow, slow, BODIES["long word"], BODIES["objects"], BODIES["texts"]]
    threads = [threading.Thread(target=server.post, args=("/v1/embeddings", b)) for b in bodies]
    for thread in threads:
        thread.start()
    waits, asked = [], json_of(input="hello")
    while any(thread.is_alive() for thread in threads):
        began = time.monotonic()
        assert server.client.get("/health").status_code == 200
        waits.append(time.monotonic() - began)
        assert server.post("/v1/embeddings", asked).status_code == 200
        time.sleep(0.05)
    assert len(waits) > 5 and max(waits) < HEALTH, sorted(waits)[-3:]


def test_patterns_leave_the_event_loop(good, tmp_path, monkeypatch):
    """Each word costs the pattern long: /health answers, and the text is given up."""
    shutil.copytree(good, tmp_path / "model")
    pattern = {"type": "Split", "pattern": {"Regex": "(a|aa)+$|b"}, "behavior": "Isolated"}
    rule = pattern | {"invert": False}
    tiny.edit_json(tmp_path / "model" / "tokenizer.json", pre_tokenizer=rule)
    monkeypatch.setattr(service, "PATIENCE", 0.2)
    options = Options(models=[str(tmp_path / "model")], warmup="none")
    made = service.Service(options)
    app, costly = create_app(options, made), ("a" * 29 + "b ") * 6

    async def attack():
        made.start()
        while made.models.state == "starting":
            await asyncio.sleep(0.05)
        body = json.dumps({"input": costly}).encode()
        asked = asyncio.create_task(call(app, "POST", "/v1/embeddings", body, "id"))
        began = time.monotonic()
        await asyncio.sleep(0.1)
        assert (await call(app, "GET", "/health", b"", "id"))[0] == 200
        assert time.monotonic() - began < HEALTH
        assert (await asked)[0] == 503
        fine = await call(app, "POST", "/v1/embeddings", b'{"input": "hello"}', "id")
        await made.stop()
        return fine[0]

    assert asyncio.run(attack()) == 200


def test_a_client_that_sends_nonsense_is_answered(server):
    for sent in (b"\0" * 9999, b"GET / HTTP/9.9\r\n\r\n", b"POST /pooling HTTP/1.1\r\n" * 99999):
        with socket.create_connection(("127.0.0.1", server.client.base_url.port)) as client:
            client.settimeout(SECONDS)
            try:
                client.sendall(sent)
                client.recv(MIB)
            except OSError:
                pass  # closed at once
    assert server.client.get("/health").status_code == 200
    assert os.path.exists(f"/proc/{server.process.pid}")
