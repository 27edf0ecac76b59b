"""Programs compiled in a thread of their own, the longest rows of a task first."""

import logging
import threading
from collections import deque
from concurrent.futures import Future
from typing import Any

log = logging.getLogger("jaxpool.serving")


class Warmup(threading.Thread):
    """Compiles every row length of each chain of steps that is wanted.

    Plans use only the lengths that `lengths` says are ready, so the device never waits for a
    compiler: a task takes requests as soon as its longest rows, which hold any text, are there.
    """

    def __init__(self, executor: Any, shapes: list[tuple[int, int]]):
        super().__init__(name="warm-up", daemon=True)
        self.executor = executor
        self.rows: dict[int, list[int]] = {}
        for rows, length in shapes:
            self.rows.setdefault(length, []).append(rows)
        self._ready: dict[Any, tuple[int, ...]] = {}
        self._usable: dict[Any, Future] = {}
        self._work: deque[tuple[Any, int]] = deque()
        self._wake = threading.Condition()
        self._stopping = False

    def want(self, chains: Any) -> Future:
        """Queue all lengths of some chains; the future is done when a first one is ready."""
        with self._wake:
            if chains not in self._usable:
                self._usable[chains] = Future()
                self._work.extend((chains, n) for n in (max(self.rows), *sorted(self.rows)[:-1]))
                self._wake.notify()
            return self._usable[chains]

    def demand(self, chains: Any) -> Future:
        """The same for a request that waits: ahead of all others."""
        usable, first = self.want(chains), (chains, max(self.rows))
        with self._wake:
            if first in self._work:
                self._work.remove(first)
                self._work.appendleft(first)
        return usable

    def lengths(self, chains: Any) -> tuple[int, ...]:
        """The row lengths of some chains that are compiled, ascending."""
        return self._ready.get(chains, ())

    def run(self) -> None:
        """The thread: until it is stopped."""
        while True:
            with self._wake:
                while not (self._work or self._stopping):
                    self._wake.wait()
                if self._stopping:
                    return
                chains, length = self._work.popleft()
            self._compile(chains, length)

    def _compile(self, chains: Any, length: int) -> None:
        try:
            for rows in self.rows[length]:
                if not self._stopping:
                    self.executor.compiled((chains, rows, length))
        except Exception as error:  # most often memory: shorter rows may still do
            log.exception("rows of %d tokens cannot be compiled", length)
            if not self._usable[chains].done():
                self._usable[chains].set_exception(error)
            return
        self._ready[chains] = tuple(sorted({*self._ready.get(chains, ()), length}))
        if not self._usable[chains].done():
            self._usable[chains].set_result(None)
        if not self._work:
            log.info("%d programs ready", self.executor.compilations)

    def stop(self) -> None:
        """End the thread after the program it is compiling."""
        with self._wake:
            self._stopping = True
            self._wake.notify()
        if self.is_alive():
            self.join()
