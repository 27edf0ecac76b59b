"""`Scoring`: what is to be computed, part by part, and how the results become scores."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from jaxpool.tasks.task import Task
from jaxpool.text.prepared import Prepared


@dataclass(frozen=True)
class Pair:
    """One score to be: its id, and the tokens it is computed from."""

    request_id: str
    tokens: list[int]


class Part(NamedTuple):
    """A task and its requests, which may depend on the results of earlier parts."""

    task: Task | tuple[Task, ...]
    requests: list[Prepared]
    complete: Callable[[list, Sequence], list] = lambda requests, results: requests

    def after(self, results: Sequence) -> list[Prepared]:
        """The requests to run, given what has been computed so far."""
        return self.complete(self.requests, results)


@dataclass(frozen=True)
class Scoring:
    """Scores to be computed.

    parts: run one after the other; pairs: one a score; combine: the results of all parts'
    requests, in order, to float32 scores `[len(pairs)]`, or a row of them each.
    """

    parts: tuple[Part, ...]
    pairs: list[Pair]
    combine: Callable[[Sequence[np.ndarray]], np.ndarray]

    @property
    def tokens(self) -> int:
        """Tokens to compute: each distinct text once."""
        return sum(len(request.ids) for part in self.parts for request in part.requests)
