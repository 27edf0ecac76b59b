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
from bisect import bisect_right
from collections.abc import Callable, Hashable, Sequence
from typing import Any

from serving.errors import APIError
from serving.job import Job, Part

FIRST_RATE = 1000.0  # tokens a second assumed before anything was measured
SMOOTHING = 0.1  # weight of a new measurement of the rate
QUANTA = 4  # a job goes ahead of others by at most this part of a batch: most stay in one piece


class Overloaded(APIError):
    """More tokens are queued than admitted; says when to come back."""

    def __init__(self, message: str, wait: float):
        super().__init__(429, message, retry_after=max(1, math.ceil(wait)))


class Expired(APIError):
    """A deadline passed while the request was queued."""

    def __init__(self):
        super().__init__(504, "The request's deadline passed before its computation began")


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
        self._arrived: list[Job] = []  # in this round of the event loop
        self._order = itertools.count()
        self._lanes: dict[Hashable, list] = {}
        self._jobs: set[Job] = set()

    def check(self, deadline: float = math.inf) -> None:
        """Raise `Overloaded` if a job that arrives now would be refused."""
        admit(self.tokens, self.limit, self.rate, deadline)

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
        self._put(job)
        try:
            await future
        finally:
            if not future.done() or future.cancelled():
                self.withdraw(job)
        return job

    def _put(self, job: Job) -> None:
        """Admit a job. The device gets all that arrive in one round of the event loop together.

        It would else begin with the first few, and again with the next: each batch costs by itself.
        """
        requests, tokens = job.waiting
        with self.condition:
            if self.closed:
                raise self.closed
            self.requests += requests
            self.tokens += tokens
            self._jobs.add(job)
        if not self._arrived:
            asyncio.get_running_loop().call_soon(self._hand_over)
        self._arrived.append(job)

    def _hand_over(self) -> None:
        arrived, self._arrived = self._arrived, []
        with self.condition:
            for job in arrived:
                # Start-time fair queueing: a job's turn is the service given when it arrived, and
                # it moves on with what is computed of it, so a large batch does not block the
                # texts behind.
                lane = self._lanes.setdefault(job.task, [])
                heapq.heappush(lane, (job.priority, self._served, next(self._order), job))
            self.condition.notify()

    @property
    def waiting(self) -> bool:
        """Whether something is there for the device."""
        return any(self._lanes.values())

    def take(self) -> list[Part]:
        """The next batch: requests of one task, in turn, up to the engine's token budget."""
        taken: list[Part] = []
        now, room = time.monotonic(), self.engine.budget
        lane = self._next_lane()
        while lane and room > 0:
            priority, turn, order, job = heapq.heappop(lane)
            if job.dropped:
                continue
            if job.deadline < now:
                self.fail(job, Expired())
                continue
            part = self._part(job, room, self._lead(lane, priority, turn), not taken)
            if part:
                self._leave(part, now)
                taken.append(part)
                room -= part.tokens
            if job.first < len(job.ends):
                turn += part.tokens if part else 0
                heapq.heappush(lane, (priority, turn, order, job))
            if not part:
                break
        return taken

    def _lead(self, lane: list, priority: int, turn: int) -> float:
        """Tokens of a job that may go now, before others of its priority have their turn."""
        if not lane or lane[0][0] != priority:
            return math.inf
        return lane[0][1] - turn + self.engine.budget // QUANTA

    def _part(self, job: Job, room: int, lead: float, alone: bool) -> Part | None:
        """The requests of a job that have their turn and find room; one in any case if `alone`."""
        begun, first = job.begun, job.first
        stop = bisect_right(job.ends, begun + min(room, max(lead, 1)), first)
        if stop == first and (alone or job.ends[first] - begun <= room):
            stop += 1
        if stop == first:
            return None
        return Part(job, first, stop, job.ends[stop - 1] - begun)

    def _next_lane(self) -> list:
        self._lanes = {task: lane for task, lane in self._lanes.items() if lane}
        return min(self._lanes.values(), key=lambda lane: lane[0][:3], default=[])

    def _leave(self, part: Part, now: float) -> None:
        job = part.job
        job.times.started = job.times.started or now
        job.first = part.stop
        self.tokens -= part.tokens
        self.requests -= len(part)
        self.running += len(part)
        self._served += part.tokens

    def deliver(self, part: Part, results: Sequence[Any]) -> bool:
        """Hand results to their job; whether this finishes it, so that its caller can be woken."""
        self.running -= len(part)
        job = part.job
        job.results[part.start : part.stop] = results
        job.missing -= len(part)
        if job.missing or job.dropped:
            return False
        job.times.finished = time.monotonic()
        self._jobs.discard(job)
        return True

    def refuse(self, part: Part, error: Exception) -> None:
        """Running requests cannot be computed: their job fails."""
        self.running -= len(part)
        self.fail(part.job, error)

    def fail(self, job: Job, error: Exception) -> None:
        """End a job with an error; what it still has queued is dropped."""
        self.withdraw(job)
        settle([job.future], error=error)

    def withdraw(self, job: Job) -> None:
        """Drop what a job still has queued."""
        with self.condition:
            self._jobs.discard(job)
            requests, tokens = (0, 0) if job.dropped else job.waiting
            self.requests -= requests
            self.tokens -= tokens
            job.dropped = True
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


def admit(tokens: int, limit: int, rate: float, deadline: float = math.inf) -> None:
    """Raise `Overloaded` where too many tokens wait, or take too long at a rate."""
    wait = tokens / rate
    if tokens >= limit:
        raise Overloaded(f"The queue is full: {tokens} tokens wait", wait)
    if time.monotonic() + wait > deadline:
        raise Overloaded(f"The deadline cannot be met: the wait is {wait:.1f} s", wait)


def settle(
    futures: list[asyncio.Future],
    result: Any = None,
    error: Exception | None = None,
    behind: Callable[[], None] | None = None,
) -> None:
    """Set the outcome of futures of one event loop from another thread, unless they are done.

    behind: called on the loop once whoever awaits them has gone on.
    """

    def outcome():
        for future in futures:
            if future.done():
                continue
            if error is None:
                future.set_result(result)
            else:
                future.set_exception(error)
        if behind:
            futures[0].get_loop().call_soon(behind)

    if not futures:
        return
    try:
        futures[0].get_loop().call_soon_threadsafe(outcome)
    except RuntimeError:  # the event loop has ended, and the caller with it
        pass
