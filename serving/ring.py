"""Memory that one process writes and another reads, for the arrays of messages between them."""

import mmap
import os
import tempfile
from collections.abc import Sequence

SIZE = 16 << 20  # bytes each way; what does not fit goes with the message itself
ALIGNED = 64  # bytes: where an array begins


class Ring:
    """The writer's account of some memory: what it puts there stays until the reader has it.

    Places count on without end; they lie in the memory by their rest. `end` is where the next
    array goes, and `freed` how far the reader has come, which it says with its own messages.
    """

    def __init__(self, memory: mmap.mmap):
        self.memory, self.size = memory, len(memory)
        self.end = self.freed = 0

    def put(self, parts: Sequence[memoryview]) -> int | None:
        """Write some bytes, each aligned; where they begin, or None where there is no room."""
        size = sum(aligned(part) for part in parts)
        if self.end == self.freed:  # all is read: the first bytes are still in caches
            self.end = self.freed = self._next
        start = self._next if self.end % self.size + size > self.size else self.end
        if start + size - self.freed > self.size:
            return None
        place = start % self.size
        for part in parts:
            self.memory[place : place + part.nbytes] = part
            place += aligned(part)
        self.end = start + size
        return start

    @property
    def _next(self) -> int:
        """Where the memory begins again."""
        return -(-self.end // self.size) * self.size


def read(memory: mmap.mmap, start: int, sizes: Sequence[int]) -> list[memoryview]:
    """A copy of what was put at `start`: the memory is then free for what comes next."""
    place = start % len(memory)
    whole = memoryview(bytearray(memory[place : place + sum(map(rounded, sizes))]))
    return parts_of(whole, sizes)


def parts_of(whole: memoryview, sizes: Sequence[int]) -> list[memoryview]:
    """The parts of bytes that were laid out one after the other, each aligned."""
    found, place = [], 0
    for size in sizes:
        found.append(whole[place : place + size])
        place += rounded(size)
    return found


def rounded(size: int) -> int:
    """Bytes up to where the next array may begin."""
    return -(-size // ALIGNED) * ALIGNED


def aligned(part: memoryview) -> int:
    """The bytes that a part takes."""
    return rounded(part.nbytes)


def memory() -> int:
    """A descriptor of fresh memory without a name, gone when the last process that has it is.

    Its pages are taken only when they are written.
    """
    if hasattr(os, "memfd_create"):
        descriptor = os.memfd_create("jaxpool")
    else:
        with tempfile.TemporaryFile() as file:
            descriptor = os.dup(file.fileno())
    os.ftruncate(descriptor, SIZE)
    return descriptor


def mapped(descriptor: int) -> mmap.mmap:
    """The memory of a descriptor, which is closed."""
    try:
        return mmap.mmap(descriptor, os.fstat(descriptor).st_size)
    finally:
        os.close(descriptor)
