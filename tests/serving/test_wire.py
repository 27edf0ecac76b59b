"""Messages between the processes of a server: arrays in shared memory, calls, errors, ends."""

import asyncio
import mmap
import random
import socket

import numpy as np
import pytest

from serving.errors import InvalidUserInput
from serving.queue import Overloaded
from serving.ring import ALIGNED, Ring, read
from serving.wire import Line

SIZE = 64 * ALIGNED


def test_a_ring_never_writes_over_what_was_not_read():
    """Thousands of arrays of random sizes, read late and in order, are what was put."""
    rng, memory = random.Random(0), mmap.mmap(-1, SIZE)
    ring, waiting, full = Ring(memory), [], 0
    for number in range(5000):
        parts = [bytes([rng.randrange(256)]) * rng.randrange(1, 900) for _ in range(2)]
        start = ring.put([memoryview(part) for part in parts])
        if start is None:
            full += 1
        else:
            waiting.append((start, ring.end, parts))
        while waiting and (start is None or rng.random() < 0.4):
            first, end, wanted = waiting.pop(0)
            found = read(memory, first, list(map(len, wanted)))
            assert [bytes(part) for part in found] == wanted, number
            ring.freed = max(ring.freed, end)
            if rng.random() < 0.5:
                break
    assert full > 50


def test_what_is_larger_than_a_ring_finds_no_room_and_does_no_harm():
    ring = Ring(mmap.mmap(-1, SIZE))
    assert ring.put([memoryview(bytes(SIZE + 1))]) is None
    assert ring.put([memoryview(bytes(SIZE))]) is not None
    assert ring.put([memoryview(b"a")]) is None
    ring.freed = ring.end
    assert ring.put([memoryview(b"a")]) is not None


async def pair(answers, size=SIZE):
    """Two lines with each other, over a small ring each way; the second answers."""
    one, two = socket.socketpair()
    there, back = mmap.mmap(-1, size), mmap.mmap(-1, size)
    first, second = Line({}, rings=(there, back)), Line(answers, rings=(back, there))
    loop = asyncio.get_running_loop()
    await loop.create_unix_connection(lambda: first, sock=one)
    await loop.create_unix_connection(lambda: second, sock=two)
    return first, second


async def double(arrays, **_):
    return [2 * array for array in arrays]


def test_arrays_come_through_whether_they_fit_or_not():
    async def run():
        line, other = await pair({"double": double})
        rng = np.random.default_rng(0)
        for size in (0, 1, 7, 300, 3000, 40_000):
            given = [rng.normal(size=size), np.arange(size, dtype=np.int8), np.array(5)]
            calls = [line.call("double", given) for _ in range(20)]
            for found in await asyncio.gather(*calls):
                for a, b in zip(given, found, strict=True):
                    np.testing.assert_array_equal(2 * a, b)
                    assert b.dtype == a.dtype
        assert line.ring.end > SIZE and other.ring.end > SIZE  # both were in use
        line.close()

    asyncio.run(run())


def test_errors_keep_their_answer():
    async def refuse(kind):
        if kind == "full":
            raise Overloaded("The queue is full", 2.5)
        if kind == "user":
            raise InvalidUserInput(400, "no", "name")
        raise ValueError("odd")

    async def run():
        line, _ = await pair({"refuse": refuse})
        found = []
        for kind in ("full", "user", "other"):
            with pytest.raises(Exception) as raised:
                await line.call("refuse", kind)
            found.append(raised.value)
        full, user, other = found
        assert (full.status, str(full), full.retry_after) == (429, "The queue is full", 3)
        assert (user.status, user.kind, user.param) == (400, "InvalidUserInput", "name")
        assert (other.status, str(other)) == (500, "ValueError: odd")
        line.close()

    asyncio.run(run())


def test_a_caller_that_gives_up_ends_the_call_and_the_other_s_end_is_an_error():
    async def run():
        ended, began = asyncio.Event(), asyncio.Event()

        async def forever():
            began.set()
            try:
                await asyncio.sleep(100)
            finally:
                ended.set()

        line, other = await pair({"forever": forever})
        call = asyncio.ensure_future(line.call("forever"))
        await began.wait()
        call.cancel()
        await asyncio.wait_for(ended.wait(), 5)
        ended.clear()
        call = asyncio.ensure_future(line.call("forever"))
        await asyncio.sleep(0.05)
        other.close()
        with pytest.raises(ConnectionError):
            await call
        await asyncio.wait_for(ended.wait(), 5)  # nobody wants it any more
        with pytest.raises(ConnectionError):
            await line.call("forever")

    asyncio.run(run())


def test_what_cannot_be_sent_fails_alone():
    async def odd():
        return lambda: None

    async def run():
        line, _ = await pair({"odd": odd, "double": double})
        calls = [line.call("odd"), line.call("double", [2]), line.call("double", [lambda: None])]
        first, second, third = await asyncio.gather(*calls, return_exceptions=True)
        assert first.status == 500 and "pickle" in str(first)
        assert second == [4] and isinstance(third, Exception)
        line.close()

    asyncio.run(run())
