"""Calls between the processes of one server: a Unix socket for words, shared memory for arrays.

Messages are pickles, which only these processes write: their sockets have no name, or one in a
folder of their owner alone. Nothing that a client sends is ever unpickled.
"""

import asyncio
import itertools
import pickle
import struct
from collections.abc import Awaitable, Callable
from mmap import mmap
from typing import Any

from serving.errors import APIError
from serving.ring import Ring, aligned, parts_of, read, rounded

# Bytes of the pickle; arrays; where these begin, and end, in the ring; how far that of the other
# side was read. A place of -1: the arrays follow the pickle.
HEAD = struct.Struct("<IIqQQ")
INLINE = -1
CALL, CANCEL, RESULT, ERROR = range(4)

Answer = Callable[..., Awaitable[Any]]


class Line(asyncio.Protocol):
    """One end of a socket between two processes, each of which calls functions of the other.

    answers: what the other side may call, by name; lost: called when the other side has ended;
    rings: the memory for our arrays, and for theirs.
    """

    def __init__(
        self,
        answers: dict[str, Answer],
        lost: Callable[[], None] = lambda: None,
        rings: tuple[mmap, mmap] | None = None,
    ):
        self.answers, self.lost = answers, lost
        self.ring = Ring(rings[0]) if rings else None
        self.theirs = rings[1] if rings else None
        self.closed = False
        self._read_up_to = 0  # of their ring
        self._numbers = itertools.count()
        self._asked: dict[int, asyncio.Future] = {}
        self._answering: dict[int, asyncio.Task] = {}
        self._received = bytearray()
        self._out: list[Any] = []
        self._transport: Any = None

    def connection_made(self, transport):
        """The socket is there."""
        self._transport = transport

    async def call(self, name: str, *given: Any) -> Any:
        """What a function of the other side returns, or raises; `ConnectionError` if it has ended.

        Cancelling the caller cancels the call.
        """
        if self.closed:
            raise ConnectionResetError("the other process has ended")
        number = next(self._numbers)
        future = self._asked[number] = asyncio.get_running_loop().create_future()
        self._send((CALL, number, name, given))
        try:
            return await future
        finally:
            if self._asked.pop(number, None):
                self._send((CANCEL, number))

    def close(self) -> None:
        """End the connection; the other side learns of it."""
        if self._transport:
            self._flush()
            self._transport.close()

    def connection_lost(self, error):
        """Calls in both directions end with it."""
        self.closed = True
        for future in self._asked.values():
            if not future.done():
                future.set_exception(ConnectionResetError("the other process has ended"))
        self._asked.clear()
        for task in list(self._answering.values()):
            task.cancel()
        self.lost()

    def data_received(self, data: bytes):
        """Take what is whole of it."""
        self._received += data
        place = 0
        while len(self._received) - place >= HEAD.size:
            head = HEAD.unpack_from(self._received, place)
            size, count, start, *_ = head
            begin = place + HEAD.size
            stop = begin + size + 8 * count
            if len(self._received) < stop:
                break
            sizes = struct.unpack_from(f"<{count}Q", self._received, stop - 8 * count)
            end = stop + (sum(map(rounded, sizes)) if start == INLINE else 0)
            if len(self._received) < end:
                break
            content = bytes(memoryview(self._received)[begin:end])
            place = end
            self._message(content, size, sizes, *head[2:])
        del self._received[:place]

    def _message(self, content: bytes, size: int, sizes, start: int, end: int, freed: int) -> None:
        if self.ring:
            self.ring.freed = max(self.ring.freed, freed)
        if start == INLINE:
            inline = memoryview(bytearray(content[size + 8 * len(sizes) :]))
            arrays = parts_of(inline, sizes)
        else:
            assert self.theirs is not None
            arrays = read(self.theirs, start, sizes)
            self._read_up_to = end
        for message in pickle.loads(content[:size], buffers=arrays):
            self._take(*message)

    def _take(self, kind: int, number: int, *what: Any) -> None:
        if kind == CALL:
            task = asyncio.ensure_future(self._answer(number, *what))
            self._answering[number] = task
            task.add_done_callback(lambda _: self._answering.pop(number, None))
        elif kind == CANCEL:
            if number in self._answering:
                self._answering[number].cancel()
        elif (future := self._asked.pop(number, None)) and not future.done():
            if kind == RESULT:
                future.set_result(what[0])
            else:
                future.set_exception(what[0])

    async def _answer(self, number: int, name: str, given: tuple) -> None:
        try:
            self._send((RESULT, number, await self.answers[name](*given)))
        except Exception as error:
            told = error if isinstance(error, APIError) else told_as(error)
            self._send((ERROR, number, told))

    def _send(self, message: tuple) -> None:
        """Queue a message: those of one round of the event loop go out as one pickle.

        What they share, such as the task of many jobs, is written and read once.
        """
        if self.closed:
            return
        if not self._out:
            asyncio.get_running_loop().call_soon(self._flush)
        self._out.append(message)

    def _flush(self) -> None:
        out, self._out = self._out, []
        if out and not self.closed and self._transport:
            self._transport.write(b"".join(self._written(out)))

    def _written(self, messages: list[tuple]) -> list:
        """Some messages as bytes, their arrays in the ring where it has room."""
        buffers: list[pickle.PickleBuffer] = []
        try:
            content = pickle.dumps(messages, 5, buffer_callback=buffers.append)
        except Exception as error:
            return self._apart(messages) if len(messages) > 1 else self._unsent(messages[0], error)
        arrays = [buffer.raw() for buffer in buffers]
        start = self.ring.put(arrays) if self.ring and arrays else None
        if arrays and start is None and len(messages) > 1:  # there may be room for some
            return self._apart(messages)
        place, end = (INLINE, 0) if start is None else (start, self.ring.end if self.ring else 0)
        sizes = struct.pack(f"<{len(arrays)}Q", *(array.nbytes for array in arrays))
        head = HEAD.pack(len(content), len(arrays), place, end, self._read_up_to)
        inline = arrays if place == INLINE else []
        return [
            head,
            content,
            sizes,
            *(part for x in inline for part in (x, bytes(aligned(x) - x.nbytes))),
        ]

    def _apart(self, messages: list[tuple]) -> list:
        return [part for message in messages for part in self._written([message])]

    def _unsent(self, message: tuple, error: Exception) -> list:
        """What is not to be pickled fails, on the side that waits for it."""
        kind, number, *_ = message
        if kind == RESULT:
            return self._written([(ERROR, number, told_as(error))])
        if future := self._asked.pop(number, None):
            future.set_exception(error)
        return []


def told_as(error: Exception) -> APIError:
    """An error of another process, in words alone: not every exception can be sent."""
    return APIError(500, f"{type(error).__name__}: {error}")
