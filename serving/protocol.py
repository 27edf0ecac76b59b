"""HTTP/1.1 that limits the time of a request's head and tells when a client leaves."""

import asyncio
from collections.abc import Callable
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

STATUS = b"HTTP/1.1 "  # what the head of an answer begins with


class Joined:
    """A transport that sends the head of an answer with the first part of its body.

    uvicorn writes them one after the other, which costs a second call of the system and wakes the
    client twice. A head without a body is sent at the end of the round of the event loop.
    """

    def __init__(self, transport: Any, loop: asyncio.AbstractEventLoop):
        self.transport, self.loop = transport, loop
        self.head = b""
        self.is_closing = transport.is_closing

    def write(self, data: bytes) -> None:
        """Send some bytes of an answer."""
        if self.head:
            self.transport.writelines([self.head, data])
            self.head = b""
        elif data.startswith(STATUS):
            self.head = data
            self.loop.call_soon(self.flush)
        else:
            self.transport.write(data)

    def flush(self) -> None:
        """Send a head that still waits for its body."""
        if self.head:
            self.transport.write(self.head)
            self.head = b""

    def close(self) -> None:
        """Close the connection when everything is sent."""
        self.flush()
        self.transport.close()

    def __getattr__(self, name: str) -> Any:
        return getattr(self.transport, name)


class Protocol(HttpToolsProtocol):
    """Closes connections that dawdle: uvicorn alone would wait for a head forever.

    The body has its own limit, in `middleware.Limits`. A request finds its protocol in
    `request.state.connection` and puts into `leaving` what is called if the client disconnects. To
    await that as ASGI has it would take a task for each request.
    """

    seconds: float

    def __init__(self, *args: Any, **kwargs: Any):
        super().__init__(*args, **kwargs)
        self.timer: asyncio.TimerHandle | None = None
        self.leaving: set[Callable[[], None]] = set()

    @classmethod
    def within(cls, seconds: float) -> type["Protocol"]:
        """The protocol with its limit set, as uvicorn's `http` option takes it."""
        return type("Limited", (cls,), {"seconds": seconds})

    def connection_made(self, transport):
        """Start the clock of the first request."""
        super().connection_made(Joined(transport, self.loop))  # type: ignore[arg-type]
        self._watch()

    def on_message_begin(self):
        """Start the clock of a later request."""
        super().on_message_begin()
        self.scope["state"]["connection"] = self
        self._watch()

    def on_headers_complete(self):
        """The head is here."""
        self._stop()
        super().on_headers_complete()

    def on_message_complete(self):
        """Read on: a large body pauses that, and the client's leaving would not be noticed."""
        super().on_message_complete()
        if not self.pipeline:
            self.flow.resume_reading()

    def connection_lost(self, exc):
        """Nothing is left to watch; who computes for the client learns of it."""
        self._stop()
        for leave in list(self.leaving):
            leave()
        super().connection_lost(exc)

    def _watch(self):
        if self.timer is None:
            self.timer = self.loop.call_later(self.seconds, self.transport.close)

    def _stop(self):
        if self.timer is not None:
            self.timer.cancel()
            self.timer = None
