"""What every request passes, as plain ASGI: ids, keys, limits of size and time, logs, metrics."""

import asyncio
import hmac
import logging
import random
import time
from collections.abc import Collection, Iterable, Mapping
from contextvars import ContextVar

from serving.encoding import json_response
from serving.errors import APIError, answer, unsupported_media_type

access = logging.getLogger("jaxpool.access")
request_id: ContextVar[str] = ContextVar("request_id", default="-")

OPEN = {"/health", "/ping", "/metrics"}  # routes that need no key
METHODS = {"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"}
UNCOUNTED = OPEN | {"/load", "/version"}  # routes left out of metrics and logs


class Keys:
    """Refuses requests without one of the keys, before their body is read."""

    def __init__(self, app, keys: Iterable[str], files: Collection[str] = ()):
        self.app, self.keys = app, [f"bearer {key}".encode() for key in keys]
        self.files = files  # what anyone may GET

    async def __call__(self, scope, receive, send):
        if scope["type"] != "http" or self._allowed(scope):
            return await self.app(scope, receive, send)
        response = json_response({"error": "Unauthorized"}, 401)
        await response(scope, receive, send)

    def _allowed(self, scope) -> bool:
        if scope["method"] == "OPTIONS" or path_of(scope) in OPEN:
            return True
        if scope["method"] == "GET" and path_of(scope) in self.files:
            return True
        scheme, _, token = header(scope, b"authorization").partition(b" ")
        given = scheme.lower() + b" " + token.strip()
        return any([hmac.compare_digest(given, key) for key in self.keys])


class Limits:
    """Reads the body: within `size` bytes, and within `seconds`.

    streamed: paths whose body the route reads by itself, of that many bytes at most, each part of
    it within `seconds`.
    """

    def __init__(self, app, size: int, seconds: float, streamed: Mapping[str, int]):
        self.app, self.size, self.seconds, self.streamed = app, size, seconds, streamed

    async def __call__(self, scope, receive, send):
        if scope["type"] != "http" or scope["method"] != "POST" or path_of(scope) == "/ping":
            return await self.app(scope, receive, send)
        if most := self.streamed.get(path_of(scope)):
            return await self.app(scope, self._parts(receive, most), send)
        try:
            body = await self._read(scope, receive)
        except APIError as error:
            response = answer(error.status, str(error))
            # The rest of the body is still to come: only a closed connection ends it.
            response.headers["Connection"] = "close"
            return await response(scope, receive, send)
        if body is not None:
            scope["body"] = body
            await self.app(scope, _replay(body, receive), send)

    async def _read(self, scope, receive) -> bytes | None:
        """The body, or None where the client left while sending it."""
        length = header(scope, b"content-length")
        if length.isdigit() and int(length) > self.size:
            raise _too_large(self.size)
        connection = scope.get("state", {}).get("connection")
        if connection and not connection.cycle.more_body:  # it is here: no clock is needed
            return await self._whole(receive)
        try:
            async with asyncio.timeout(self.seconds):
                return await self._whole(receive)
        except TimeoutError:
            raise _too_late(self.seconds) from None

    async def _whole(self, receive) -> bytes | None:
        chunks, size = [], 0
        while True:
            message = await receive()
            if message["type"] == "http.disconnect":
                return None
            chunks.append(message.get("body", b""))
            size += len(chunks[-1])
            if size > self.size:
                raise _too_large(self.size)
            if not message.get("more_body"):
                return b"".join(chunks)

    def _parts(self, receive, most: int):
        """A `receive` that refuses more than `most` bytes, and a client that stands still."""
        size = 0

        async def part():
            nonlocal size
            try:
                async with asyncio.timeout(self.seconds):
                    message = await receive()
            except TimeoutError:
                raise _too_late(self.seconds) from None
            size += len(message.get("body", b""))
            if size > most:
                raise _too_large(most)
            return message

        return part


def _too_large(most: int) -> APIError:
    return APIError(413, f"The body is larger than {most} bytes")


def _too_late(seconds: float) -> APIError:
    return APIError(408, f"The body did not arrive within {seconds:g} s")


def _replay(body: bytes, receive):
    """A `receive` that gives the body once more, then what the connection says."""
    sent = False

    async def again():
        nonlocal sent
        if sent:
            return await receive()
        sent = True
        return {"type": "http.request", "body": body, "more_body": False}

    return again


class Observe:
    """Gives each request an id, counts and times it, and logs it where asked."""

    def __init__(self, app, service, options):
        self.app, self.service = app, service
        self.echo, self.log = options.enable_request_id_headers, options.enable_log_requests
        self.root = options.root_path

    async def __call__(self, scope, receive, send):
        if scope["type"] != "http":
            return await self.app(scope, receive, send)
        name = header(scope, b"x-request-id").decode("latin-1") or f"{random.getrandbits(128):032x}"
        scope.setdefault("state", {})["id"] = name
        if self.root:  # whether or not the proxy takes it off the path
            scope["root_path"] = self.root
        token = request_id.set(name)
        begun, status = time.perf_counter(), 499  # a client that leaves gets no answer

        async def observed(message):
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                if self.echo:
                    message["headers"].append((b"x-request-id", name.encode("latin-1")))
            await send(message)

        self.service.active += 1
        try:
            await self.app(scope, receive, observed)
        except BaseException:
            status = 500 if status == 499 else status
            raise
        finally:
            self.service.active -= 1
            self._record(scope, status, time.perf_counter() - begun)
            request_id.reset(token)

    def _record(self, scope, status: int, seconds: float) -> None:
        path = path_of(scope)
        if path in UNCOUNTED:
            return
        # Unknown paths share one label, and the names in a path theirs, or a scanner could grow the
        # metrics without end.
        route = scope.get("route")
        handler = route.path if route else path if "endpoint" in scope else "none"
        method = scope["method"] if scope["method"] in METHODS else "other"
        self.service.metrics.requests(handler, method, f"{status // 100}xx").inc()
        self.service.metrics.latency(handler, method).observe(seconds)
        if self.log:
            access.info("%s %s %d %.1f ms", scope["method"], path, status, seconds * 1e3)


def header(scope, name: bytes) -> bytes:
    """A request header, empty if absent."""
    for key, value in scope["headers"]:
        if key == name:
            return value
    return b""


def path_of(scope) -> str:
    """The path of a request below the root of a proxy."""
    return scope["path"].removeprefix(scope.get("root_path", "")) or "/"


def require_json(scope) -> None:
    """Raise unless the request says it is JSON."""
    kind = header(scope, b"content-type").partition(b";")[0].strip().lower()
    if kind != b"application/json":
        raise unsupported_media_type()
