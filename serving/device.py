"""The one thread that owns the device: loads models, runs batches, answers for its health."""

import asyncio
import logging
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

from serving.errors import APIError
from serving.job import Part
from serving.queue import Queue, settle

log = logging.getLogger("jaxpool.serving")


class Engine(Protocol):
    """A model on the device."""

    @property
    def budget(self) -> int:
        """Tokens to take at once."""

    def start(self, task: Any, requests: list) -> Any:
        """Begin computing; returns at once where the device allows."""

    def finish(self, started: Any) -> list:
        """Wait for the results, one a request; ArithmeticError if one is not finite."""

    def ping(self) -> None:
        """A trivial computation: raises or hangs if the device does."""


class Dead(APIError):
    """The device thread has ended."""

    def __init__(self):
        super().__init__(503, "The engine is dead")


class Failed(APIError):
    """The device could not compute this request, tried alone."""

    def __init__(self, error: Exception):
        super().__init__(500, f"The request could not be computed: {type(error).__name__}: {error}")


Record = Callable[[], None]


def nothing() -> None:
    """Record nothing."""


@dataclass
class InFlight:
    """A batch on the device."""

    queue: Queue
    parts: list[Part]
    started: Any
    since: float


class Owner(threading.Thread):
    """Runs the batches of every queue in turn; `depth` of them are on the device at once.

    observe: called with (queue, parts) after each batch; what it returns is called in turn, on the
    event loop, once the answers are on their way.
    """

    def __init__(
        self, depth: int = 1, observe: Callable[[Queue, list[Part]], Record] = lambda *_: nothing
    ):
        super().__init__(name="device", daemon=True)
        self.condition = threading.Condition(threading.RLock())
        self.queues: deque[Queue] = deque()
        self.depth, self.observe = depth, observe
        self.stopping = self.dead = False
        self._calls: deque[tuple[Callable, asyncio.Future]] = deque()
        self._in_flight: deque[InFlight] = deque()
        self._last = 0.0  # when the latest batch finished
        self._setup: Callable[[], None] = lambda: None

    def begin(self, setup: Callable[[], None]) -> None:
        """Start the thread, which calls `setup` first; it ends if that fails."""
        self._setup = setup
        self.start()

    def add(self, engine: Engine, limit: int) -> Queue:
        """A queue for one more model."""
        queue = Queue(engine, self.condition, limit)
        with self.condition:
            self.queues.append(queue)
        return queue

    async def call(self, function: Callable[[], Any]) -> Any:
        """Run a function on the device thread, between two batches."""
        if self.dead:
            raise Dead
        future = asyncio.get_running_loop().create_future()
        with self.condition:
            self._calls.append((function, future))
            self.condition.notify()
        return await future

    async def probe(self) -> None:
        """Pass through the thread and the device of every model."""
        await self.call(lambda: [queue.engine.ping() for queue in self.queues])

    def stop(self) -> None:
        """End the thread after the batches it is running."""
        with self.condition:
            self.stopping = True
            self.condition.notify()

    def run(self) -> None:
        """The thread: until it is stopped, or dies and takes every waiting request with it."""
        try:
            self._setup()
            while not self.stopping:
                self._step()
        except BaseException as error:
            log.critical("the device thread ends", exc_info=error)
        finally:
            self.dead = True
            for queue in self.queues:
                queue.abort(Dead())
            settle([future for _, future in self._calls], error=Dead())

    def _step(self) -> None:
        with self.condition:
            while not (self._calls or self._in_flight or self.stopping or self._waiting):
                self.condition.wait()
            call = self._calls.popleft() if self._calls else None
            queue = self._next() if len(self._in_flight) < self.depth and not call else None
            parts = queue.take() if queue else []
        if call:
            self._answer(*call)
        elif queue and parts:
            self._start(queue, parts)
        elif self._in_flight:
            self._finish(self._in_flight.popleft())

    @property
    def _waiting(self) -> bool:
        return any(queue.waiting for queue in self.queues)

    def _next(self) -> Queue | None:
        """The next queue, in turn, that has something to compute."""
        for _ in range(len(self.queues)):
            self.queues.rotate(-1)
            if self.queues[-1].waiting:
                return self.queues[-1]
        return None

    def _answer(self, function: Callable, future: asyncio.Future) -> None:
        try:
            settle([future], function())
        except Exception as error:
            settle([future], error=error)
        except BaseException:
            settle([future], error=Dead())
            raise

    def _start(self, queue: Queue, parts: list[Part]) -> None:
        since = time.monotonic()
        try:
            started = queue.engine.start(*_batch(parts))
        except Exception as error:
            self._retry(queue, parts, error)
        else:
            self._in_flight.append(InFlight(queue, parts, started, since))

    def _finish(self, batch: InFlight) -> None:
        queue, parts = batch.queue, batch.parts
        try:
            results = queue.engine.finish(batch.started)
        except Exception as error:
            self._retry(queue, parts, error)
            return
        seconds = time.monotonic() - max(batch.since, self._last)
        self._last = time.monotonic()
        queue.measured(sum(part.tokens for part in parts), seconds)
        self._deliver(queue, parts, results, self.observe(queue, parts))

    def _deliver(
        self, queue: Queue, parts: list[Part], results: list, record: Record = nothing
    ) -> None:
        done, start = [], 0
        for part in parts:
            if queue.deliver(part, results[start : start + len(part)]):
                done.append(part.job.future)
            start += len(part)
        if done:
            settle(done, behind=record)
        else:
            record()

    def _retry(self, queue: Queue, failed: list[Part], error: Exception) -> None:
        """Compute the halves of a batch that failed, so that only the faulty requests fail."""
        each = [one for part in failed for one in part.each]
        if len(each) == 1:
            log.error("a request failed on the device", exc_info=error)
            queue.refuse(each[0], Failed(error))
            return
        middle = len(each) // 2
        for half in (each[:middle], each[middle:]):
            try:
                results = queue.engine.finish(queue.engine.start(*_batch(half)))
            except Exception as again:
                self._retry(queue, half, again)
            else:
                self._deliver(queue, half, results)


def _batch(parts: list[Part]) -> tuple[Any, list]:
    """The task of some parts, and their requests."""
    return parts[0].job.task, [request for part in parts for request in part.requests]
