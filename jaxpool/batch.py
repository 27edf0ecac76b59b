"""Batches: which texts share a row, and the int32 arrays the device sees. NumPy only.

A row of `length` tokens holds one or more requests as segments 1, 2, ...; segment 0 is padding.
Lengths come from a ladder and row counts from a token budget, so the set of shapes is closed.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

SHORTEST = 16  # the first rung of a ladder
PACKED = 128  # rows of short requests are filled up to this many tokens
TOKENS_PER_SEGMENT = 8  # a row of T tokens holds at most T / 8 requests


class Batch(NamedTuple):
    """What `forward` reads: int32 `[rows, length]` each; `types` only for models that have them.

    `segments` numbers the texts of a row from 1, 0 is padding; `positions` restart in each.
    """

    tokens: Any
    segments: Any
    positions: Any
    types: Any = None


class Controls(NamedTuple):
    """What each request of a row asks of the head, `[rows, segments]` each.

    dimensions: leading features kept (Matryoshka); activate: normalize, softmax, ... or leave raw;
    skip: leading tokens (the prompt) that pooling leaves out.
    """

    dimensions: Any
    activate: Any
    skip: Any


@dataclass(frozen=True)
class Request:
    """One text, as token ids: what the engine computes on."""

    ids: np.ndarray
    types: np.ndarray | None = None
    dimensions: int = np.iinfo(np.int32).max
    activate: bool = True
    skip: int = 0


class Slot(NamedTuple):
    """Where a request lies in a batch."""

    request: int
    row: int
    segment: int
    start: int


class Plan(NamedTuple):
    """One batch to be: its shape, and the slots of its requests."""

    rows: int
    length: int
    slots: list[Slot]


def ladder(max_length: int) -> tuple[int, ...]:
    """Row lengths 16, 24, 32, 48, ... (powers of two and the halves between) up to `max_length`."""
    rungs, rung = [], SHORTEST
    while rung < max_length:
        rungs += [rung, rung * 3 // 2]
        rung *= 2
    return tuple(r for r in rungs if r < max_length) + (max_length,)


def segments_of(length: int) -> int:
    """How many requests a row of `length` tokens can hold."""
    return max(1, length // TOKENS_PER_SEGMENT)


def rows_of(length: int, budget: int, multiple: int = 1) -> int:
    """The most rows of `length` in one batch: a power of two within the token budget."""
    fit = max(1, budget // length // multiple)
    return multiple * 2 ** (fit.bit_length() - 1)


def pack(lengths: Sequence[int], rungs: tuple[int, ...]) -> list[tuple[int, list[int]]]:
    """Share rows among requests: `(row length, requests)` each, by best-fit decreasing.

    Longest first; each request goes into the fullest row that still has room for it, and opens
    the shortest row of the ladder otherwise (short requests open rows of `PACKED` tokens while
    there are enough of them to fill one). A bit set of free spaces makes each step O(1).
    """
    if lengths and max(lengths) > rungs[-1]:
        raise ValueError(f"A request of {max(lengths)} tokens is beyond the limit of {rungs[-1]}")
    order = sorted(range(len(lengths)), key=lambda i: -lengths[i])
    rows: list[tuple[int, list[int]]] = []
    free: dict[int, list[int]] = {}
    spaces = 0  # bit n is set when a row has n tokens free
    left = sum(lengths)
    for request in order:
        size = max(lengths[request], 1)
        room = spaces >> size
        if room:
            space = size + (room & -room).bit_length() - 1
            row = free[space].pop()
            if not free[space]:
                spaces &= ~(1 << space)
        else:
            space = _rung(max(size, min(PACKED, left)), rungs)
            row = len(rows)
            rows.append((space, []))
        length, members = rows[row]
        members.append(request)
        space -= size
        left -= size
        if space and len(members) < segments_of(length):
            free.setdefault(space, []).append(row)
            spaces |= 1 << space
    return rows


def _rung(size: int, rungs: tuple[int, ...]) -> int:
    return next((rung for rung in rungs if rung >= size), rungs[-1])


def plan(
    lengths: Sequence[int], rungs: tuple[int, ...], budget: int, multiple: int = 1
) -> list[Plan]:
    """Batches for requests of `lengths`: rows of one length together, within the token budget."""
    rows = sorted(pack(lengths, rungs), key=lambda row: -row[0])
    plans = []
    while rows:
        length = rows[0][0]
        most = rows_of(length, budget, multiple)
        same = next((i for i, row in enumerate(rows[:most]) if row[0] != length), None)
        taken = rows[: most if same is None else same]
        rows = rows[len(taken) :]
        plans.append(_place(taken, length, lengths, most, multiple))
    return plans


def _place(rows, length, lengths, most, multiple) -> Plan:
    slots = []
    for row, (_, members) in enumerate(rows):
        start = 0
        for segment, request in enumerate(members, start=1):
            slots.append(Slot(request, row, segment, start))
            start += lengths[request]
    count = multiple
    while count < len(rows):
        count *= 2
    return Plan(min(count, most), length, slots)


def fill(p: Plan, requests: Sequence[Request], types: bool = False) -> tuple[Batch, Controls]:
    """The arrays of one planned batch."""
    shape, heads = (p.rows, p.length), (p.rows, segments_of(p.length))
    tokens, segments, positions = (np.zeros(shape, np.int32) for _ in range(3))
    kinds = np.zeros(shape, np.int32) if types else None
    controls = Controls(
        np.full(heads, np.iinfo(np.int32).max, np.int32),
        np.ones(heads, np.bool_),
        np.zeros(heads, np.int32),
    )
    for index, row, segment, start in p.slots:
        request = requests[index]
        span = slice(start, start + len(request.ids))
        tokens[row, span] = request.ids
        segments[row, span] = segment
        positions[row, span] = np.arange(len(request.ids))
        if kinds is not None and request.types is not None:
            kinds[row, span] = request.types
        for control, value in zip(
            controls, (request.dimensions, request.activate, request.skip), strict=True
        ):
            control[row, segment - 1] = value
    return Batch(tokens, segments, positions, kinds), controls


def unpack(
    p: Plan, output: np.ndarray, requests: Sequence[Request], pooled: bool
) -> Iterable[tuple[int, np.ndarray]]:
    """`(request, result)` of a fetched output: `[...]` of a pooled task, `[tokens, ...]` else."""
    for index, row, segment, start in p.slots:
        if pooled:
            yield index, output[row, segment - 1]
        else:
            yield index, output[row, start : start + len(requests[index].ids)]


def pad(texts: Sequence[Sequence[int]], length: int | None = None) -> Batch:
    """The simplest batch: one text a row, padded to `length` (the longest if not given)."""
    rows = [Request(np.asarray(ids, np.int32)) for ids in texts]
    length = length or max(len(row.ids) for row in rows)
    return fill(Plan(len(rows), length, [Slot(i, i, 1, 0) for i in range(len(rows))]), rows)[0]
