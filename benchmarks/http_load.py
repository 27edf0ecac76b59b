"""A light HTTP/1.1 client for load: keep-alive sockets, prepared requests, bodies left unread."""

import asyncio
import json
import time
from collections.abc import Callable, Iterator
from typing import NamedTuple


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
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + content


class Connection:
    """One keep-alive connection to 127.0.0.1."""

    def __init__(self, port: int):
        self.port, self.reader, self.writer = port, None, None

    async def send(self, data: bytes) -> Answer:
        """One exchange."""
        begun = time.perf_counter()
        if self.writer is None or self.reader.at_eof():
            self.reader, self.writer = await asyncio.open_connection("127.0.0.1", self.port)
        self.writer.write(data)
        head = (await self.reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
        headers = dict(line.lower().split(": ", 1) for line in head[1:] if line)
        body = await self.reader.readexactly(int(headers.get("content-length", 0)))
        if headers.get("connection") == "close":
            self.close()
        return Answer(int(head[0].split()[1]), headers, body, time.perf_counter() - begun)

    def close(self) -> None:
        """End the connection."""
        if self.writer is not None:
            self.writer.close()
            self.writer = None


async def closed_loop(
    port: int, clients: int, requests: Iterator[bytes], on_answer: Callable[[Answer], None]
) -> None:
    """`clients` connections that each send the next request when the last is answered."""

    async def client():
        connection = Connection(port)
        for data in requests:
            on_answer(await connection.send(data))
        connection.close()

    await asyncio.gather(*(client() for _ in range(clients)))
