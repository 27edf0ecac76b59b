"""Compiles programs while the server runs, bucket by bucket, first those that requests wait for."""

import logging
import os
import threading
from collections import deque
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

from jaxpool.engine.planner import PACKED

log = logging.getLogger("jaxpool.serving")


class Warmup(threading.Thread):
    """Compiles every row length of each program (chains of steps) that is wanted.

    Plans use only the lengths that are ready, so the device never waits for a compiler. Rows of
    `PACKED` tokens come first, then the others, ascending. exact: each text is computed in the
    shortest row that holds it, be it compiled yet or not.
    """

    def __init__(self, executor: Any, shapes: list[tuple[int, int]], exact: bool = False):
        super().__init__(name="warm-up", daemon=True)
        self.executor, self.exact = executor, exact
        self.rows: dict[int, list[int]] = {}
        for rows, length in sorted(shapes, key=lambda shape: shape[1]):
            self.rows.setdefault(length, []).append(rows)
        self._first = self._fitting(PACKED)
        self._made: dict[tuple[Any, int], Future] = {}
        self._work: deque[tuple[Any, int]] = deque()
        self._wake = threading.Condition()
        self._stopping = False
        self._complete: set[tuple] = set()  # programs whose rows of every length are compiled
        # The other half of the cores serves requests.
        cores = max(1, (os.cpu_count() or 1) // 2)
        self._compilers = ThreadPoolExecutor(cores, thread_name_prefix="warm-up")

    def _fitting(self, tokens: int) -> int:
        """The shortest row that holds some tokens; the longest of all where none does."""
        return next((n for n in self.rows if n >= tokens), max(self.rows))

    def want(self, chains: Any) -> Future:
        """Queue all lengths of a program; the future is done when the first is ready."""
        with self._wake:
            if (chains, self._first) not in self._made:
                order = [self._first, *(n for n in self.rows if n != self._first)]
                self._made |= {(chains, n): Future() for n in order}
                self._work.extend((chains, n) for n in order)
                self._wake.notify()
            return self._made[chains, self._first]

    def demand(self, programs: Sequence, tokens: int) -> list[Future]:
        """The futures that a request of some tokens has to wait for, moved ahead of all others.

        Empty if longer rows are ready in all programs: up to `PACKED`, or twice its bucket.
        """
        if tuple(programs) in self._complete:
            return []
        for chains in programs:
            self.want(chains)
        fitting = self._fitting(tokens)
        most = fitting if self.exact else max(2 * fitting, self._first)
        if any(fitting <= n <= most for n in self.lengths(programs)):
            return []
        wanted = [(chains, fitting) for chains in programs]
        with self._wake:
            ahead = [work for work in self._work if work in wanted]
            self._work = deque((*ahead, *(work for work in self._work if work not in wanted)))
        return [self._made[work] for work in wanted]

    def lengths(self, programs: Sequence) -> tuple[int, ...]:
        """The row lengths that are compiled in all of some programs, ascending."""
        if tuple(programs) in self._complete:
            return tuple(self.rows)
        made = tuple(n for n in self.rows if all(self._ready(chains, n) for chains in programs))
        if len(made) == len(self.rows):
            self._complete.add(tuple(programs))
        return made

    def _ready(self, chains: Any, length: int) -> bool:
        made = self._made.get((chains, length))
        return made is not None and made.done() and not made.exception()

    def run(self) -> None:
        """The thread: until it is stopped."""
        while True:
            with self._wake:
                while not (self._work or self._stopping):
                    self._wake.wait()
                if self._stopping:
                    return
                work = self._work.popleft()
            self._compile(*work)

    def _compile(self, chains: Any, length: int) -> None:
        keys = [(chains, rows, length) for rows in self.rows[length]]
        try:
            list(self._compilers.map(self.executor.compiled, keys))
        except Exception as error:  # most often memory: shorter rows may still do
            if self._stopping:  # what was queued is cancelled
                return
            log.exception("rows of %d tokens cannot be compiled", length)
            self._made[chains, length].set_exception(error)
            return
        self._made[chains, length].set_result(None)
        if not self._work:
            log.info("%d programs ready", self.executor.compilations)

    def stop(self) -> None:
        """End the thread after the programs it is compiling."""
        with self._wake:
            self._stopping = True
            self._wake.notify()
        self._compilers.shutdown(cancel_futures=True)
        if self.is_alive():
            self.join()
