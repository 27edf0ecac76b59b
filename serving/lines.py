"""OpenAI's batch lines: requests that an application answers without a socket, in their order.

A line is `{"custom_id": ..., "method": "POST", "url": "/v1/embeddings", "body": {...}}`.
"""

import asyncio
import uuid
from codecs import BOM_UTF8
from collections import deque
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable
from typing import Any

import orjson
from starlette.types import ASGIApp, Message

from serving.errors import envelope

# What answers a request: its method, url, body and id; the status and content of the answer.
Ask = Callable[[str, str, dict, str], Awaitable[tuple[int, bytes]]]


async def answers(ask: Ask, lines: Iterable[bytes], concurrency: int) -> AsyncGenerator[dict, None]:
    """The answers of some lines in their order, `concurrency` asked at once."""
    asked: deque[asyncio.Task] = deque()
    try:
        for line in lines:
            if line.isspace():
                continue
            asked.append(asyncio.create_task(_answer(ask, line)))
            if len(asked) >= concurrency:
                yield await asked.popleft()
        while asked:
            yield await asked.popleft()
    finally:  # of a caller that has heard enough
        for task in asked:
            task.cancel()


async def _answer(ask: Ask, line: bytes) -> dict:
    """What one line gets: its response, and the error that is in it if it is one."""
    name = uuid.uuid4().hex
    custom, status, body = await _asked(ask, line, name)
    return {
        "id": f"batch_req_{name}",
        "custom_id": custom,
        "response": {"status_code": status, "request_id": name, "body": body},
        "error": body if status >= 400 else None,
    }


async def _asked(ask: Ask, line: bytes, name: str) -> tuple[str | None, int, Any]:
    """The custom_id, status and body of a line."""
    request, fault = fault_of(line)
    custom = request.get("custom_id")
    if fault:
        message = f"a batch line has custom_id, method, url and body; this one: {fault}"
        return custom, 400, envelope(message, "BadRequestError", None, 400)
    status, answer = await ask(request["method"].upper(), request["url"], request["body"], name)
    try:
        return custom, status, orjson.loads(answer)
    except ValueError:
        message = "an answer of bytes has no place in a line: use encoding_format float or base64"
        return custom, 400, envelope(message, "BadRequestError", "encoding_format", 400)


def fault_of(line: bytes) -> tuple[dict, str | None]:
    """The object of a line, and what is wrong with it."""
    wanted = {"custom_id": str, "method": str, "url": str, "body": dict}
    try:
        request = orjson.loads(line.removeprefix(BOM_UTF8))
    except ValueError as error:
        return {}, f"not a JSON object ({error})"
    if not isinstance(request, dict):
        return {}, f"not a JSON object but a {type(request).__name__}"
    for key, kind in wanted.items():
        if key not in request:
            return request, f"no {key}"
        if not isinstance(request[key], kind):
            return request, f"{key} is no {kind.__name__}"
    return request, None


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
