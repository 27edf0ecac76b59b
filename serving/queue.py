"""The queue of one model: lanes by priority, admission by tokens, deadlines, cancellation.

Requests are put from the event loop and taken by the device thread. There is no wait timer: the
device takes what is there when it is free, and while it is busy the next batch forms.
"""

import asyncio
import heapq
import itertools
import math
import threading
import time
from collections.abc import Hashable, Sequence
from dataclasses import dataclass, field
from typing import Any

from serving.errors import APIError

FIRST_RATE = 1000.0  # tokens a second assumed before anything was measured
SMOOTHING = 0.1  # weight of a new measurement of the rate


class Overloaded(APIError):
    """More tokens are queued than admitted; says when to come back."""

    def __init__(self, message: str, wait: float):
        super().__init__(429, message, retry_after=max(1, math.ceil(wait)))


class Expired(APIError):
    """A deadline passed while the request was queued."""

    def __init__(self):
        super().__init__(504, "The request's deadline passed before its computation began")


@dataclass
class Times:
    """When a job came, began and ended, for response headers and metrics (monotonic seconds)."""

    arrived: float = field(default_factory=time.monotonic)
    started: float = 0.0
    finished: float = 0.0

    @property
    def queued(self) -> float:
        """Seconds in the queue."""
        return self.started - self.arrived

    @property
    def computing(self) -> float:
        """Seconds from its first request on the device to its last result."""
        return self.finished - self.started

    @property
    def whole(self) -> float:
        """Seconds from its arrival to its end."""
        return self.finished - self.arrived


@dataclass
class Left:
    """What is left of a job, as the queue counts it.

    tokens, requests: those that wait; results: those that are missing; dropped: nobody wants them.
    """

    tokens: int = 0
    requests: int = 0
    results: int = 0
    dropped: bool = False


@dataclass(eq=False)
class Job:
    """What one client asked for at once: split into items, rejoined when the last is done."""

    task: Hashable
    requests: Sequence[Any]
    priority: int
    deadline: float
    future: asyncio.Future
    results: list[Any] = field(init=False)
    times: Times = field(default_factory=Times)
    left: Left = field(default_factory=Left)

    def __post_init__(self):
        self.results = [None] * len(self.requests)
        self.left.results = len(self.requests)

    @property
    def tokens(self) -> int:
        """The tokens of all its requests."""
        return sum(len(request.ids) for request in self.requests)

    @property
    def truncated(self) -> int:
        """How many of its texts were cut to a length."""
        return sum(getattr(request, "cut", False) for request in self.requests)


@dataclass(slots=True, eq=False)
class Item:
    """One request of a job."""

    job: Job
    index: int
    tokens: int

    @property
    def request(self) -> Any:
        """What the engine computes on."""
        return self.job.requests[self.index]


class Queue:
    """Requests of one model that wait for the device.

    condition: shared with the device thread, notified on every arrival; limit: tokens beyond
    which new jobs are refused (a job of any size is admitted below it).
    """

    def __init__(self, engine: Any, condition: threading.Condition, limit: int):
        self.engine, self.condition, self.limit = engine, condition, limit
        self.tokens = self.requests = self.running = 0
        self.rate = FIRST_RATE
        self.closed: Exception | None = None
        self._served = 0
        self._waking = False
        self._order = itertools.count()
        self._lanes: dict[Hashable, list] = {}
        self._jobs: set[Job] = set()

    def wait(self) -> float:
        """Seconds until all that is queued now is computed, by the measured rate."""
        return self.tokens / self.rate

    def check(self, deadline: float = math.inf) -> None:
        """Raise `Overloaded` if a job that arrives now would be refused."""
        wait = self.wait()
        if self.tokens >= self.limit:
            raise Overloaded(f"The queue is full: {self.tokens} tokens wait", wait)
        if time.monotonic() + wait > deadline:
            raise Overloaded(f"The deadline cannot be met: the wait is {wait:.1f} s", wait)

    async def submit(
        self,
        task: Hashable,
        requests: Sequence[Any],
        priority: int = 0,
        deadline: float = math.inf,
    ) -> Job:
        """Queue requests of one task and wait for all their results.

        A lower priority number goes first. Cancelling the caller takes back what is still queued.
        """
        self.check(deadline)
        future = asyncio.get_running_loop().create_future()
        job = Job(task, requests, priority, deadline, future)
        with self.condition:
            self._put(job)
        self._wake()
        try:
            await future
        finally:
            if not future.done() or future.cancelled():
                self.withdraw(job)
        return job

    def _put(self, job: Job) -> None:
        if self.closed:
            raise self.closed
        # Start-time fair queueing: a request's turn is the service given when its job arrived
        # plus what its own job has before it, so a large batch does not block the texts behind.
        turn = self._served
        lane = self._lanes.setdefault(job.task, [])
        for index, request in enumerate(job.requests):
            item = Item(job, index, max(1, request.size))
            heapq.heappush(lane, (job.priority, turn, next(self._order), item))
            turn += item.tokens
        job.left.tokens, job.left.requests = turn - self._served, len(job.requests)
        self.tokens += job.left.tokens
        self.requests += job.left.requests
        self._jobs.add(job)

    def _wake(self) -> None:
        """Tell the device thread, once for all jobs that arrive in one round of the event loop."""
        if not self._waking:
            self._waking = True
            asyncio.get_running_loop().call_soon(self._notify)

    def _notify(self) -> None:
        self._waking = False
        with self.condition:
            self.condition.notify()

    def take(self) -> list[Item]:
        """The next batch: requests of one task, in turn, up to the engine's token budget."""
        taken: list[Item] = []
        now, room = time.monotonic(), self.engine.budget
        lane = self._next_lane()
        while lane and (not taken or lane[0][3].tokens <= room):
            item = heapq.heappop(lane)[3]
            if item.job.left.dropped:
                continue
            if item.job.deadline < now:
                self.fail(item.job, Expired())
                continue
            self._leave(item, now)
            taken.append(item)
            room -= item.tokens
        return taken

    def _next_lane(self) -> list:
        self._lanes = {task: lane for task, lane in self._lanes.items() if lane}
        return min(self._lanes.values(), key=lambda lane: lane[0][:3], default=[])

    def _leave(self, item: Item, now: float) -> None:
        times, left = item.job.times, item.job.left
        times.started = times.started or now
        left.tokens -= item.tokens
        left.requests -= 1
        self.tokens -= item.tokens
        self.requests -= 1
        self.running += 1
        self._served += item.tokens

    def deliver(self, item: Item, result: Any) -> bool:
        """Hand a result to its job; whether this finishes it, so that its caller can be woken."""
        self.running -= 1
        job = item.job
        job.results[item.index] = result
        job.left.results -= 1
        if job.left.results or job.left.dropped:
            return False
        job.times.finished = time.monotonic()
        self._jobs.discard(job)
        return True

    def refuse(self, item: Item, error: Exception) -> None:
        """A running item cannot be computed: its job fails."""
        self.running -= 1
        self.fail(item.job, error)

    def fail(self, job: Job, error: Exception) -> None:
        """End a job with an error; what it still has queued is dropped."""
        self.withdraw(job)
        settle([job.future], error=error)

    def withdraw(self, job: Job) -> None:
        """Drop what a job still has queued."""
        with self.condition:
            self._jobs.discard(job)
            self.requests -= job.left.requests
            self.tokens -= job.left.tokens
            job.left.tokens = job.left.requests = 0
            job.left.dropped = True
            if not self.requests:
                self._lanes.clear()

    def abort(self, error: Exception) -> None:
        """Fail every job that is not finished, and all that come."""
        with self.condition:
            self.closed = error
            jobs = list(self._jobs)
        for job in jobs:
            self.fail(job, error)

    def measured(self, tokens: int, seconds: float) -> None:
        """Account for a finished batch in the rate."""
        self.rate += SMOOTHING * (tokens / max(seconds, 1e-6) - self.rate)


def settle(
    futures: list[asyncio.Future], result: Any = None, error: Exception | None = None
) -> None:
    """Set the outcome of futures of one event loop from another thread, unless they are done."""

    def outcome():
        for future in futures:
            if future.done():
                continue
            if error is None:
                future.set_result(result)
            else:
                future.set_exception(error)

    if not futures:
        return
    try:
        futures[0].get_loop().call_soon_threadsafe(outcome)
    except RuntimeError:  # the event loop has ended, and the caller with it
        pass
