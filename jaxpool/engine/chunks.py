"""The chunks of late chunking in a batch: the arrays that say where they lie. NumPy only."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np


class Chunks(NamedTuple):
    """The chunks of late chunking in each row, int32 `[rows, chunks]` each; unused ones are empty.

    first: the first token of each; end: the one past its last; segment: that of its text.
    """

    first: Any
    end: Any
    segment: Any


def fill(p, requests: Sequence, count: int) -> Chunks:
    """The chunks of a planned batch, `count` in each row; `requests` are those of the plan."""
    made = Chunks(*(np.zeros((p.rows, count), np.int32) for _ in Chunks._fields))
    spans = [request.spans for request in requests if request.spans is not None]
    if spans:
        counts = list(map(len, spans))
        at = places(p, counts)
        ends = np.concatenate(spans) + np.repeat(p.start, counts)[:, None]
        made.first[at], made.end[at] = ends.T
        made.segment[at] = np.repeat(p.segment, counts)
    return made


def places(p, counts: Sequence[int]) -> tuple[np.ndarray, np.ndarray]:
    """Where the chunks of requests lie: rows, and places from 0 in each."""
    rows = np.repeat(p.row, counts)
    return rows, np.arange(len(rows)) - np.searchsorted(rows, rows)
