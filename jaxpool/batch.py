"""Batches: which texts share a row, and the int32 arrays the device sees. NumPy only.

A row of `length` tokens holds one or more requests as segments 1, 2, ...; segment 0 is padding.
Lengths come from a ladder and row counts from a token budget, so the set of shapes is closed:
rows shorter than `PACKED` are only ever alone, since several of them would share one row.
"""

from bisect import bisect_left
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Any, NamedTuple

import numpy as np

SHORTEST = 16  # the first rung of a ladder
PACKED = 128  # rows of short requests are filled up to this many tokens
LONG = 1024  # rows beyond this are opened with an eye on who fills them
TOKENS_PER_SEGMENT = 4  # a row of T tokens holds at most T / 4 requests,
SEGMENTS = 32  # and never more than these
SLACK = 0.02  # share of a call's tokens that may be padding to spare the compile of a shape
NO_CUT = np.iinfo(np.int32).max
UNSEEN = -1


class Batch(NamedTuple):
    """What `forward` reads: int32 `[rows, length]` each; the last three for models that have them.

    `segments` numbers the texts of a row from 1, 0 is padding; `positions` restart in each;
    `adapters` numbers those of the model from 1, 0 is none;
    `context` is the segment that a token sees beside its own (0: none), a prefix shared by several
    texts; `UNSEEN` marks tokens that see their text but are seen by none (query expansion).
    """

    tokens: Any
    segments: Any
    positions: Any
    types: Any = None
    adapters: Any = None
    context: Any = None


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
    """One text, as token ids: what the engine computes on.

    unseen: trailing tokens that no token sees; shared: leading tokens that other requests may have
    too, to be computed once; position: of the first token, which follows that many tokens of the
    first segment of its row.
    """

    ids: np.ndarray
    types: np.ndarray | None = None
    dimensions: int = NO_CUT
    activate: bool = True
    skip: int = 0
    adapter: int = 0
    unseen: int = 0
    shared: int = 0
    position: int = 0


CONTROLS = Controls(dimensions=(np.int32, NO_CUT), activate=(np.bool_, True), skip=(np.int32, 0))


class Plan(NamedTuple):
    """One batch to be: its shape, and where each of its requests lies (arrays of one length)."""

    rows: int
    length: int
    request: np.ndarray
    row: np.ndarray
    segment: np.ndarray
    start: np.ndarray


def ladder(max_length: int) -> tuple[int, ...]:
    """Row lengths 16, 24, 32, 48, ... (powers of two and the halves between) up to `max_length`."""
    rungs, rung = [], SHORTEST
    while rung < max_length:
        rungs += [rung, rung * 3 // 2]
        rung *= 2
    return tuple(r for r in rungs if r < max_length) + (max_length,)


def counts(length: int, rungs: Sequence[int], budget: int, multiple: int = 1) -> tuple[int, ...]:
    """Row counts a batch of `length` may have, ascending multiples of the data axis.

    Powers of two up to what the token budget holds, and just one below `PACKED` tokens.
    """
    if length < min(PACKED, rungs[-1]):
        return (multiple,)
    most = max(1, budget // (length * multiple))
    return (*(multiple << i for i in range((most - 1).bit_length())), multiple * most)


def shapes(rungs: Sequence[int], budget: int, multiple: int = 1) -> list[tuple[int, int]]:
    """Every `(rows, length)` a plan may use."""
    return [(rows, n) for n in rungs for rows in counts(n, rungs, budget, multiple)]


def full_shapes(rungs: Sequence[int], budget: int, multiple: int = 1) -> list[tuple[int, int]]:
    """The largest `(rows, length)` of each rung: what `plan_alone` uses."""
    return [(multiple * max(1, budget // (n * multiple)), n) for n in rungs]


def segments_of(length: int) -> int:
    """How many requests a row of `length` tokens can hold."""
    return max(1, min(length // TOKENS_PER_SEGMENT, SEGMENTS))


def pack(lengths: Sequence[int], rungs: Sequence[int]) -> dict[int, list[list[int]]]:
    """Share rows among requests: the members of each row, by row length; best-fit decreasing.

    Longest first; each request goes into the fullest row that still has room for it, and opens a
    new row otherwise. A bit set of free spaces makes each step O(1).
    """
    _fitting(max(lengths, default=0), rungs)
    order = sorted(range(len(lengths)), key=lengths.__getitem__, reverse=True)
    short = lengths[order[-1 - len(order) // 5]] if order else 0
    rows: dict[int, list[list[int]]] = {}
    free: dict[int, list[tuple[list[int], int]]] = {}  # by free tokens: (members, most members)
    spaces = 0  # bit n is set when a row has n tokens free
    left = sum(lengths)
    for request in order:
        size = max(lengths[request], 1)
        room = spaces >> size
        if room:
            space = size + (room & -room).bit_length() - 1
            members, most = free[space].pop()
            if not free[space]:
                spaces &= ~(1 << space)
        else:
            space = _open(size, left, short, rungs)
            members, most = [], segments_of(space)
            rows.setdefault(space, []).append(members)
        members.append(request)
        space -= size
        left -= size
        if space and len(members) < most:
            free.setdefault(space, []).append((members, most))
            spaces |= 1 << space
    return rows


def _open(size: int, left: int, short: int, rungs: Sequence[int]) -> int:
    """The length of a new row for a request of `size`, with `left` tokens still to place.

    The first rung that holds it, or `PACKED` while there is enough to fill that; for long requests
    the second, if the first would leave a gap too small for all but the `short` fifth of requests.
    """
    size = max(size, min(PACKED, left))
    first = bisect_left(rungs, size)
    # Past the ladder only `PACKED` may be too long, in a model of fewer tokens.
    length, longer = (rungs[min(i, len(rungs) - 1)] for i in (first, first + 1))
    unfillable = length * 0.05 < length - size < short
    return longer if size > LONG and unfillable and left >= longer else length


def plan(
    lengths: Sequence[int], rungs: Sequence[int], budget: int, multiple: int = 1
) -> list[Plan]:
    """Batches for requests of `lengths`, longest rows first, each within the token budget.

    Rows of one length go together in the largest batches. What is left over joins longer rows, or
    a batch with empty rows, while that pads less than `SLACK`: each shape spared is a compile.
    """
    return schedule(pack(lengths, rungs), lengths, rungs, budget, multiple)


def schedule(
    packed: dict[int, list[list[int]]], lengths, rungs: Sequence[int], budget: int, multiple: int
) -> list[Plan]:
    """The batches of packed rows: the second half of `plan`."""
    slack = SLACK * sum(length * len(rows) for length, rows in packed.items())
    plans: list[Plan] = []
    carried: list[list[int]] = []
    used = sorted(packed)
    for length, longer in zip(used, [*used[1:], 0], strict=True):
        rows = packed[length] + carried
        options = counts(length, rungs, budget, multiple)
        whole = len(rows) - len(rows) % options[-1]
        for i in range(0, whole, options[-1]):
            plans.append(place(rows[i : i + options[-1]], options[-1], length, lengths))
        carried = rows[whole:]
        padding = len(carried) * (longer - length)
        if 0 <= padding <= slack:
            slack -= padding
        else:
            slack = _leftover(carried, length, options, slack, lengths, plans)
            carried = []
    return plans[::-1]


def _leftover(rows, length, options, slack, lengths, plans) -> float:
    """Batches for fewer rows than a full one: exact powers of two, padded up where slack allows."""
    while rows:
        enough = next(count for count in options if count >= len(rows))
        padding = (enough - len(rows)) * length
        below = [count for count in options if count <= len(rows)]
        if padding <= slack or not below:
            slack -= padding
            below = [enough]
        plans.append(place(rows[: below[-1]], below[-1], length, lengths))
        rows = rows[below[-1] :]
    return slack


def plan_alone(
    lengths: Sequence[int], rungs: Sequence[int], budget: int, multiple: int = 1
) -> list[Plan]:
    """Batches of one shape a rung and one request a row.

    What is computed for a request then depends on its length alone: the same executable, and
    nothing else in its row.
    """
    by_rung: dict[int, list[list[int]]] = {}
    for i, size in enumerate(lengths):
        by_rung.setdefault(_fitting(size, rungs), []).append([i])
    plans = []
    for count, length in reversed(full_shapes(rungs, budget, multiple)):
        rows = by_rung.get(length, [])
        for i in range(0, len(rows), count):
            plans.append(place(rows[i : i + count], count, length, lengths))
    return plans


def _fitting(size: int, rungs: Sequence[int]) -> int:
    if size > rungs[-1]:
        raise ValueError(f"A request of {size} tokens is beyond the limit of {rungs[-1]}")
    return rungs[bisect_left(rungs, size)]


def place(rows: list[list[int]], count: int, length: int, lengths: Sequence[int]) -> Plan:
    """The plan of `count` rows of `length`, the first of which hold the requests of `rows`."""
    members = [len(row) for row in rows]
    starts = [s for row in rows for s in accumulate((lengths[i] for i in row[:-1]), initial=0)]
    return Plan(
        count,
        length,
        request=np.concatenate(rows),
        row=np.repeat(np.arange(len(rows)), members),
        segment=np.concatenate([np.arange(1, n + 1) for n in members]),
        start=np.array(starts),
    )


def efficiency(plans: Iterable[Plan], lengths: Sequence[int]) -> float:
    """Real tokens over computed tokens of some plans."""
    plans = list(plans)
    computed = sum(p.rows * p.length for p in plans)
    return sum(lengths[i] for p in plans for i in p.request) / computed if computed else 1.0


def fill(
    p: Plan,
    requests: Sequence[Request],
    types: bool = False,
    adapters: bool = False,
    context: bool = False,
) -> tuple[Batch, Controls]:
    """The arrays of one planned batch."""
    mine = [requests[i] for i in p.request]
    sizes = np.array([len(request.ids) for request in mine])
    within = np.arange(sizes.sum()) - np.repeat(np.cumsum(sizes) - sizes, sizes)
    where = np.repeat(p.row * p.length + p.start, sizes) + within
    first = np.array([request.position for request in mine])

    def scatter(values) -> np.ndarray:
        array = np.zeros((p.rows, p.length), np.int32)
        array.ravel()[where] = values
        return array

    kinds = None
    if types:
        none = np.zeros(p.length, np.int32)
        kinds = [none[: len(r.ids)] if r.types is None else r.types for r in mine]
    batch = Batch(
        scatter(np.concatenate([request.ids for request in mine])),
        scatter(np.repeat(p.segment, sizes)),
        scatter(within + np.repeat(first, sizes)),
        None if kinds is None else scatter(np.concatenate(kinds)),
        scatter(np.repeat([request.adapter for request in mine], sizes)) if adapters else None,
        scatter(_context(mine, sizes, within)) if context else None,
    )
    return batch, _controls(p, mine)


def _context(requests: list[Request], sizes: np.ndarray, within: np.ndarray) -> np.ndarray:
    seen = sizes - [request.unseen for request in requests]
    parents = np.array([request.position > 0 for request in requests], np.int32)
    return np.where(within < np.repeat(seen, sizes), np.repeat(parents, sizes), UNSEEN)


def _controls(p: Plan, requests: list[Request]) -> Controls:
    columns = []
    for name, (dtype, default) in zip(Controls._fields, CONTROLS, strict=True):
        column = np.full((p.rows, segments_of(p.length)), default, dtype)
        column[p.row, p.segment - 1] = [getattr(request, name) for request in requests]
        columns.append(column)
    return Controls(*columns)


def unpack(
    p: Plan, output: np.ndarray, requests: Sequence[Request], pooled: bool
) -> Iterable[tuple[int, np.ndarray]]:
    """`(request, result)` of a fetched output: `[...]` of a pooled task, `[tokens, ...]` else."""
    indices = p.request.tolist()
    if pooled:
        yield from zip(indices, output[p.row, p.segment - 1], strict=True)
        return
    for index, row, start in zip(indices, p.row, p.start, strict=True):
        yield index, output[row, start : start + len(requests[index].ids)]


def pad(texts: Sequence[Sequence[int]], length: int | None = None) -> Batch:
    """The simplest batch: one text a row, padded to `length` (the longest if not given)."""
    requests = [Request(np.asarray(ids, np.int32)) for ids in texts]
    length = length or max(len(request.ids) for request in requests)
    lengths = [len(request.ids) for request in requests]
    rows = [[i] for i in range(len(requests))]
    return fill(place(rows, len(rows), length, lengths), requests)[0]
