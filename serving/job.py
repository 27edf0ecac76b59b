"""What one client asked for at once, the parts in which it is computed, and when."""

import asyncio
import time
from collections.abc import Hashable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import accumulate
from typing import Any


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


@dataclass(eq=False)
class Job:
    """What one client asked for at once: computed in parts, rejoined when the last is done.

    ends: the tokens of its requests up to the end of each; first: the first request that still
    waits; missing: results that are to come; dropped: nobody wants them; engine: the number of the
    device process that computes it.
    """

    task: Hashable
    requests: Sequence[Any]
    priority: int
    deadline: float
    future: asyncio.Future
    results: list[Any] = field(init=False)
    times: Times = field(default_factory=Times)
    ends: list[int] = field(init=False)
    first: int = 0
    missing: int = field(init=False)
    dropped: bool = False
    engine: str = "0"

    def __post_init__(self):
        self.missing = len(self.requests)
        self.results = [None] * self.missing
        self.ends = list(accumulate(max(1, request.size) for request in self.requests))

    @property
    def begun(self) -> int:
        """The tokens of its requests that wait no more."""
        return self.ends[self.first - 1] if self.first else 0

    @property
    def waiting(self) -> tuple[int, int]:
        """Its requests that wait, and their tokens."""
        return len(self.ends) - self.first, self.ends[-1] - self.begun

    @cached_property
    def tokens(self) -> int:
        """The tokens of all its requests."""
        return sum(len(request.ids) for request in self.requests)

    @cached_property
    def truncated(self) -> int:
        """How many of its texts were cut to a length."""
        return sum(getattr(request, "cut", False) for request in self.requests)


@dataclass(slots=True, eq=False)
class Part:
    """The requests of a job from `start` up to `stop`, which are computed in one batch."""

    job: Job
    start: int
    stop: int
    tokens: int

    def __len__(self):
        return self.stop - self.start

    @property
    def requests(self) -> Sequence[Any]:
        """What the engine computes on."""
        return self.job.requests[self.start : self.stop]

    @property
    def each(self) -> list["Part"]:
        """The parts of one request each."""
        ends = self.job.ends
        return [
            Part(self.job, i, i + 1, ends[i] - (ends[i - 1] if i else 0))
            for i in range(self.start, self.stop)
        ]
