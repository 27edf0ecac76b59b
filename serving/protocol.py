"""HTTP/1.1 with a limit on the time a client takes to send the head of a request."""

import asyncio
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol


class Protocol(HttpToolsProtocol):
    """Closes connections that dawdle: uvicorn alone would wait for a head forever.

    The body has its own limit, in `middleware.Limits`.
    """

    seconds: float

    def __init__(self, *args: Any, **kwargs: Any):
        super().__init__(*args, **kwargs)
        self.timer: asyncio.TimerHandle | None = None

    @classmethod
    def within(cls, seconds: float) -> type["Protocol"]:
        """The protocol with its limit set, as uvicorn's `http` option takes it."""
        return type("Limited", (cls,), {"seconds": seconds})

    def connection_made(self, transport):
        """Start the clock of the first request."""
        super().connection_made(transport)
        self._watch()

    def on_message_begin(self):
        """Start the clock of a later request."""
        super().on_message_begin()
        self._watch()

    def on_headers_complete(self):
        """The head is here."""
        self._stop()
        super().on_headers_complete()

    def connection_lost(self, exc):
        """Nothing is left to watch."""
        self._stop()
        super().connection_lost(exc)

    def _watch(self):
        if self.timer is None:
            self.timer = self.loop.call_later(self.seconds, self.transport.close)

    def _stop(self):
        if self.timer is not None:
            self.timer.cancel()
            self.timer = None
