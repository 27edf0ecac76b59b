"""A light HTTP/1.1 client for load: keep-alive sockets, prepared requests, bodies left unread."""

import asyncio
import json
import time
from collections.abc import Callable, Iterator
from typing import NamedTuple

END = b"\r\n\r\n"  # of a head


class Answer(NamedTuple):
    """What came back, and the seconds it took."""

    status: int
    headers: dict[str, str]
    body: bytes
    seconds: float


def request(path: str, body: dict, **headers: str) -> bytes:
    """The bytes of a POST of JSON."""
    content = json.dumps(body).encode()
    lines = [f"POST {path} HTTP/1.1", "Host: 127.0.0.1", "Content-Type: application/json"]
    lines += [f"Content-Length: {len(content)}", *(f"{k}: {v}" for k, v in headers.items())]
    return "\r\n".join(lines).encode() + END + content


class Client(asyncio.Protocol):
    """One keep-alive connection that sends the next request when the last is answered.

    done: a future that gets its result when no request is left.
    """

    def __init__(self, requests: Iterator[bytes], on_answer: Callable[[Answer], None]):
        self.requests, self.on_answer = requests, on_answer
        self.done = asyncio.get_running_loop().create_future()

    def connection_made(self, transport):
        """Begin."""
        self.transport = transport
        self._next()

    def _next(self) -> None:
        data = next(self.requests, None)
        self.received = b""
        if data is None:
            self.transport.close()
            self.done.set_result(None)
            return
        self.begun = time.perf_counter()
        self.transport.write(data)

    def data_received(self, data: bytes):
        """Take an answer once it is whole."""
        self.received += data
        head, end, body = self.received.partition(END)
        if not end:
            return
        first, *lines = head.decode().split("\r\n")
        headers = dict(line.lower().split(": ", 1) for line in lines)
        if len(body) < int(headers.get("content-length", 0)):
            return
        seconds = time.perf_counter() - self.begun
        self.on_answer(Answer(int(first.split()[1]), headers, body, seconds))
        self._next()

    def connection_lost(self, error):
        """The server has closed it."""
        if not self.done.done():
            self.done.set_exception(error or ConnectionResetError("the server has left"))


async def closed_loop(
    port: int, clients: int, requests: Iterator[bytes], on_answer: Callable[[Answer], None]
) -> None:
    """`clients` connections to 127.0.0.1, each sending a request when its last is answered."""
    loop = asyncio.get_running_loop()

    async def client():
        own = Client(requests, on_answer)
        await loop.create_connection(lambda: own, "127.0.0.1", port)
        await own.done

    await asyncio.gather(*(client() for _ in range(clients)))
