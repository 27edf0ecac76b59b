"""`jaxpool run-batch`: a file of requests through the application, without a socket.

A line is OpenAI's: `{"custom_id": ..., "method": "POST", "url": "/v1/embeddings", "body": {...}}`.
Each is answered by the routes of the server, in the order of the file.
"""

import asyncio
import uuid
from collections import deque
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

import orjson
from starlette.types import ASGIApp, Message

from serving.app import create_app
from serving.config import Options
from serving.errors import envelope
from serving.service import Service

POLL = 0.05  # seconds between looks at a model that loads
UNLIMITED = 2**62  # a file waits its turn: nothing is refused for being too much at once


@dataclass
class Told:
    """How many requests were answered, and how many with an error."""

    answered: int = 0
    failed: int = 0


def run_file(model: str, source: str, target: str, concurrency: int, **options: Any) -> Told:
    """Answer every line of `source` in `target` (paths or fsspec URLs), `concurrency` at once.

    The file appears when it is whole. options: those of the server.
    """
    from jaxpool.jobs.files import place, written

    if concurrency < 1:
        raise ValueError(f"--concurrency must be at least 1, got {concurrency}")
    fixed: dict = {"models": [model], "warmup": "none", "max_queued_tokens": UNLIMITED}
    service = Service(Options(**fixed, max_body_bytes=UNLIMITED, **options))
    fs, path = place(source)
    if not fs.exists(path):
        raise FileNotFoundError(f"no such file: {source}")
    out, out_path = place(target)
    with fs.open(path, "rb") as lines, written(out, out_path) as file:
        return asyncio.run(_run(service, lines, file, concurrency))


async def _run(service: Service, lines: Any, file: Any, concurrency: int) -> Told:
    app, told = create_app(service.options, service), Told()
    service.start()
    try:
        while service.models.state == "starting":
            await asyncio.sleep(POLL)
        if service.models.error:
            raise RuntimeError(service.models.error)
        async for answer in _answers(app, lines, concurrency):
            told.answered += answer["error"] is None
            told.failed += answer["error"] is not None
            file.write(orjson.dumps(answer) + b"\n")
    finally:
        await service.stop()
    return told


async def _answers(app: ASGIApp, lines: Any, concurrency: int) -> AsyncIterator[dict]:
    """The answers of some lines in their order."""
    asked: deque[asyncio.Task] = deque()
    for line in lines:
        if line.isspace():
            continue
        asked.append(asyncio.create_task(_answer(app, line)))
        if len(asked) >= concurrency:
            yield await asked.popleft()
    while asked:
        yield await asked.popleft()


async def _answer(app: ASGIApp, line: bytes) -> dict:
    """What one line gets: its response, and the error that is in it if it is one."""
    name = uuid.uuid4().hex
    custom, status, body = await _asked(app, line, name)
    return {
        "id": f"batch_req_{name}",
        "custom_id": custom,
        "response": {"status_code": status, "request_id": name, "body": body},
        "error": body if status >= 400 else None,
    }


async def _asked(app: ASGIApp, line: bytes, name: str) -> tuple[str | None, int, Any]:
    """The custom_id, status and body of a line."""
    try:
        request = orjson.loads(line)
        wanted = {"custom_id": str, "method": str, "url": str, "body": dict}
        bad = [key for key, kind in wanted.items() if not isinstance(request[key], kind)]
        fault = f"{bad[0]} is no {wanted[bad[0]].__name__}" if bad else None
    except (ValueError, TypeError) as error:
        request, fault = {}, f"not a JSON object ({error})"
    except KeyError as error:
        fault = f"no {error.args[0]}"
    custom = request.get("custom_id") if isinstance(request, dict) else None
    if fault:
        message = f"a batch line has custom_id, method, url and body; this one: {fault}"
        return custom, 400, envelope(message, "BadRequestError", None, 400)
    content = orjson.dumps(request["body"])
    status, answer = await call(app, request["method"].upper(), request["url"], content, name)
    try:
        return custom, status, orjson.loads(answer)
    except ValueError:
        message = "an answer of bytes has no place in a line: use encoding_format float or base64"
        return custom, 400, envelope(message, "BadRequestError", "encoding_format", 400)


async def call(app: ASGIApp, method: str, url: str, content: bytes, name: str) -> tuple[int, bytes]:
    """One request to an ASGI application: the status and body of its answer."""
    path, _, query = url.partition("?")
    headers = [(b"content-type", b"application/json"), (b"x-request-id", name.encode())]
    scope = {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "scheme": "http",
        "method": method,
        "path": path,
        "raw_path": path.encode(),
        "query_string": query.encode(),
        "root_path": "",
        "headers": headers,
        "client": None,
        "server": None,
    }
    status, parts, messages = 500, [], deque([{"type": "http.request", "body": content}])

    async def receive() -> Message:
        if not messages:
            await asyncio.Event().wait()  # this client stays until it is answered
        return messages.popleft()

    async def send(message: Message) -> None:
        nonlocal status
        status = message.get("status", status)
        parts.append(message.get("body", b""))

    await app(scope, receive, send)
    return status, b"".join(parts)
