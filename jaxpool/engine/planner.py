"""The planner: which requests share a row, and which rows a batch. No device, no arrays of tokens.

Row lengths are buckets and row counts powers of two within a token budget, so the set of shapes is
closed. A row shorter than `PACKED` is alone in its batch: several would be packed into one.
"""

from bisect import bisect_left
from collections.abc import Iterable, Sequence

import numpy as np

from jaxpool.engine.batch import Plan, place, segments_of

SHORTEST = 16  # the smallest bucket
PACKED = 128  # rows of short requests are filled up to this many tokens
LONG = 1024  # beyond this a row is chosen so that shorter requests can fill what is left of it
IN_FLIGHT = 2  # batches dispatched ahead of the one whose results are being fetched
SLACK = 0.02  # share of a call's tokens that may be padding if that avoids another shape


def bucket_lengths(max_length: int, steps: int = 2, shortest: int = SHORTEST) -> tuple[int, ...]:
    """Row lengths from `shortest` up to `max_length`, `steps` in each doubling."""
    buckets, bucket = [], shortest
    while bucket < max_length:
        buckets += [bucket + bucket * i // steps for i in range(steps)]
        bucket *= 2
    return tuple(r for r in buckets if r < max_length) + (max_length,)


def counts(length: int, buckets: Sequence[int], budget: int, multiple: int = 1) -> tuple[int, ...]:
    """Row counts a batch of `length` may have, ascending multiples of the data axis.

    Powers of two up to what the token budget holds, and just one below `PACKED` tokens.
    """
    if length < min(PACKED, buckets[-1]):
        return (multiple,)
    most = max(1, budget // (length * multiple))
    return (*(multiple << i for i in range((most - 1).bit_length())), multiple * most)


def shapes(buckets: Sequence[int], budget: int, multiple: int = 1) -> list[tuple[int, int]]:
    """Every `(rows, length)` a plan may use."""
    return [(rows, n) for n in buckets for rows in counts(n, buckets, budget, multiple)]


def full_shapes(buckets: Sequence[int], budget: int, multiple: int = 1) -> list[tuple[int, int]]:
    """The largest `(rows, length)` of each bucket: what `plan_alone` uses."""
    return [(multiple * max(1, budget // (n * multiple)), n) for n in buckets]


def pack(lengths: Sequence[int], buckets: Sequence[int]) -> dict[int, list[list[int]]]:
    """Share rows among requests: the members of each row, by row length; best-fit decreasing.

    Longest first; each request goes into the fullest row that still has room for it, and opens a
    new row otherwise. A bit set of free spaces makes each step O(1).
    """
    _fitting(max(lengths, default=0), buckets)
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
            space = _open(size, left, short, buckets)
            members, most = [], segments_of(space)
            rows.setdefault(space, []).append(members)
        members.append(request)
        space -= size
        left -= size
        if space and len(members) < most:
            free.setdefault(space, []).append((members, most))
            spaces |= 1 << space
    return rows


def _open(size: int, left: int, short: int, buckets: Sequence[int]) -> int:
    """The length of a new row for a request of `size`, with `left` tokens still to place.

    The smallest bucket that holds it, but at least `PACKED` while enough tokens are left to fill
    that. For long requests the next larger bucket, where the smallest would leave a gap that only
    the shortest fifth of the requests (up to `short` tokens) could fill.
    """
    size = max(size, min(PACKED, left))
    first = bisect_left(buckets, size)
    # `PACKED` may be beyond the largest bucket, in a model of fewer tokens.
    length, longer = (buckets[min(i, len(buckets) - 1)] for i in (first, first + 1))
    unfillable = length * 0.05 < length - size < short
    return longer if size > LONG and unfillable and left >= longer else length


def plan(
    lengths: Sequence[int], buckets: Sequence[int], budget: int, multiple: int = 1, call: int = 0
) -> list[Plan]:
    """Batches for requests of `lengths`, longest rows first, each within the token budget.

    Rows of one length go together, in batches as large as the budget allows. Left-over rows are
    padded to a longer length, or their batch is filled up with empty rows, as long as the padding
    stays below `SLACK`: every shape avoided is an executable that need not be compiled. They are so
    too where the padding is at most `call`, the tokens that a batch more would cost by itself. Rows
    that are empty only because the data axis must divide their number take shorter rows, or some of
    the requests of the others.
    """
    plans = schedule(pack(lengths, buckets), lengths, buckets, budget, multiple, call)
    if multiple == 1:
        return plans
    return [_spread(p, lengths, buckets, budget, multiple) for p in plans]


def schedule(
    packed: dict[int, list[list[int]]],
    lengths,
    buckets: Sequence[int],
    budget: int,
    multiple: int,
    call: int = 0,
) -> list[Plan]:
    """The batches of packed rows: the second half of `plan`."""
    slack = SLACK * sum(length * len(rows) for length, rows in packed.items())
    plans: list[Plan] = []
    carried: list[list[int]] = []
    used = sorted(packed)
    for length, longer in zip(used, [*used[1:], 0], strict=True):
        rows = packed[length] + carried
        options = counts(length, buckets, budget, multiple)
        whole = len(rows) - len(rows) % options[-1]
        if options[-1] == multiple and 0 < len(rows) * (longer - length) <= max(slack, call):
            whole = 0  # a batch each, unless they join longer ones
        for i in range(0, whole, options[-1]):
            plans.append(place(rows[i : i + options[-1]], options[-1], length, lengths))
        carried = rows[whole:]
        empty = -len(packed.get(longer, ())) % multiple  # rows that longer ones have anyway
        free, carried = carried[:empty], carried[empty:]
        padding = len(carried) * (longer - length)
        if 0 <= padding <= max(slack, call):
            slack -= padding
        else:
            slack = _leftover(carried, length, options, slack, call, lengths, plans)
            carried = []
        carried = free + carried
    return plans[::-1]


def _leftover(rows, length, options, slack, call, lengths, plans) -> float:
    """Batches for the rows that fill no whole batch: powers of two, rounded up where that pays."""
    while rows:
        enough = next(count for count in options if count >= len(rows))
        padding = (enough - len(rows)) * length
        below = [count for count in options if count <= len(rows)]
        if padding <= max(slack, call) or not below:
            slack -= padding
            below = [enough]
        plans.append(place(rows[: below[-1]], below[-1], length, lengths))
        rows = rows[below[-1] :]
    return slack


def _spread(p: Plan, lengths, buckets: Sequence[int], budget: int, multiple: int) -> Plan:
    """The batch with its requests spread over its empty rows, if a smaller bucket then suffices."""
    if len(set(p.row.tolist())) == p.rows:
        return p
    rows: list[list[int]] = [[] for _ in range(p.rows)]
    sizes = [0] * p.rows
    for request in sorted(p.request.tolist(), key=lengths.__getitem__, reverse=True):
        least = sizes.index(min(sizes))
        rows[least].append(request)
        sizes[least] += max(lengths[request], 1)
    texts = max(map(len, rows))
    enough = next(n for n in buckets if max(sizes) <= n and texts <= segments_of(n))
    shorter = enough < p.length and p.rows in counts(enough, buckets, budget, multiple)
    return place([row for row in rows if row], p.rows, enough, lengths) if shorter else p


def plan_alone(
    lengths: Sequence[int], buckets: Sequence[int], budget: int, multiple: int = 1
) -> list[Plan]:
    """Batches of one shape a bucket and one request a row.

    What is computed for a request then depends on its length alone: the same executable, and
    nothing else in its row.
    """
    by_bucket: dict[int, list[list[int]]] = {}
    for i, size in enumerate(lengths):
        by_bucket.setdefault(_fitting(size, buckets), []).append([i])
    plans = []
    for count, length in reversed(full_shapes(buckets, budget, multiple)):
        rows = by_bucket.get(length, [])
        for i in range(0, len(rows), count):
            plans.append(place(rows[i : i + count], count, length, lengths))
    return plans


def divide(p: Plan, most: int, shapes: Iterable[tuple[int, int]]) -> list[Plan]:
    """A batch in parts of at most `most` requests, by its rows; `shapes`: those parts may have."""
    if len(p.request) <= most:
        return [p]
    options = [rows for rows, length in shapes if length == p.length]
    until = np.cumsum(np.bincount(p.row, minlength=p.rows))  # requests up to each row's end
    parts, start = [], 0
    while start < p.rows:
        before = until[start - 1] if start else 0
        end = int(np.searchsorted(until, before + most, side="right"))
        mine = (start <= p.row) & (p.row < end)
        rows = next(count for count in options if count >= end - start)
        of = [column[mine] for column in (p.request, p.row - start, p.segment, p.start)]
        parts.append(Plan(rows, p.length, *of))
        start = end
    return [part for part in parts if len(part.request)]


def _fitting(size: int, buckets: Sequence[int]) -> int:
    if size > buckets[-1]:
        raise ValueError(f"A request of {size} tokens is beyond the limit of {buckets[-1]}")
    return buckets[bisect_left(buckets, size)]


def efficiency(plans: Iterable[Plan], lengths: Sequence[int]) -> float:
    """Real tokens over computed tokens of some plans."""
    plans = list(plans)
    computed = sum(p.rows * p.length for p in plans)
    return sum(lengths[i] for p in plans for i in p.request) / computed if computed else 1.0
