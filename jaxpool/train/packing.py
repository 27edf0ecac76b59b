"""A training batch: the texts of all columns, packed in rows as in serving. NumPy only."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from jaxpool.engine.batch import (
    PLAIN,
    TEXT,
    Batch,
    Controls,
    Plan,
    Request,
    fill,
    place,
    segments_of,
)
from jaxpool.engine.planner import PACKED, bucket_lengths, pack


class TrainingBatch(NamedTuple):
    """What a step reads.

    batch, controls: rows as `forward` and heads take them; where: int32 `[C, B]`, the place of
    each text among the vectors of all rows, or `[C, B, T]`, those of its tokens; mask: bool, the
    places that are there, `[B]` or `[C, B, T]`; labels: float32 or int32 `[B, ...]`, or None.
    """

    batch: Batch
    controls: Controls
    where: Any
    mask: Any
    labels: Any = None


def training_batch(
    columns: Sequence[Sequence[Request]],
    labels: np.ndarray | None,
    examples: int,
    max_length: int,
    multiple: int = 1,
    reads: Batch = TEXT,
    results: str = "texts",
) -> TrainingBatch:
    """Pack the requests of each column; `examples` is the full batch, of which fewer may be there.

    multiple: of the rows (devices of the data axis, chunks). Row counts come from a ladder of
    eight steps to a doubling, so that few shapes are compiled. reads: the arrays that the model's
    batches have; results: what a batch has vectors of, "texts" by their places in rows, "slots"
    (`heads.PoolSlots`), or "tokens".
    """
    requests = [request for column in columns for request in column]
    sizes = [len(request.ids) for request in requests]
    plan = _plan(sizes, max_length, multiple)
    slots = np.empty(len(columns) * examples) if results == "slots" else None
    batch, controls = fill(plan, requests, reads, PLAIN._replace(slots=slots))
    here = len(columns[0])
    where = _places(plan, requests, results).reshape(len(columns), here, -1)
    where = np.pad(where, ((0, 0), (0, examples - here), (0, 0)), constant_values=-1)
    if results == "tokens":
        mask = where >= 0
    else:
        where, mask = np.maximum(where[..., 0], 0), np.arange(examples) < here
    return TrainingBatch(batch, controls, where, mask, _padded(labels, examples - here))


def _plan(sizes: Sequence[int], max_length: int, multiple: int) -> Plan:
    """Rows of the shortest bucket that holds every text, or longer ones that are fuller.

    Texts of nearly `PACKED` tokens are alone in its rows. Longer rows cost more in attention, and
    another shape, so they must save a tenth of the tokens.
    """
    longest = max(*sizes, 1, min(PACKED, max_length))
    first = next(bucket for bucket in bucket_lengths(max_length) if bucket >= longest)
    longer = [bucket for bucket in bucket_lengths(2 * PACKED) if bucket > first]
    packed = {length: pack(sizes, (length,))[length] for length in (first, *longer)}
    computed = {n: n * rounded(len(rows), multiple) for n, rows in packed.items()}
    best = min(longer, key=computed.__getitem__, default=first)
    length = best if computed[best] < 0.9 * computed[first] else first
    rows = packed[length]
    return place(rows, rounded(len(rows), multiple), length, sizes)


def _places(plan: Plan, requests: Sequence[Request], results: str) -> np.ndarray:
    """Where each request's vectors lie, int32 `[requests, 1 or T]`; -1 where there is none."""
    if results == "tokens":
        return _token_places(plan, requests)
    places = np.zeros(len(requests), np.int32)
    of_rows = plan.row * segments_of(plan.length) + plan.segment - 1
    places[plan.request] = np.arange(len(requests)) if results == "slots" else of_rows
    return places[:, None]


def _token_places(plan: Plan, requests: Sequence[Request]) -> np.ndarray:
    counted = [np.arange(len(r.ids)) if r.counted is None else r.counted for r in requests]
    most = next(
        bucket for bucket in bucket_lengths(plan.length) if bucket >= max(map(len, counted))
    )
    places = np.full((len(requests), most), -1, np.int32)
    for i, row, start in zip(plan.request, plan.row, plan.start, strict=True):
        places[i, : len(counted[i])] = row * plan.length + start + counted[i]
    return places


def _padded(labels: np.ndarray | None, missing: int) -> np.ndarray | None:
    if labels is None:
        return None
    labels = labels.astype(np.int32 if labels.dtype.kind in "iu" else np.float32)
    return np.pad(labels, [(0, missing), *((0, 0),) * (labels.ndim - 1)])


def rounded(count: int, multiple: int) -> int:
    """The next count of a ladder of eight steps to a doubling, in multiples of `multiple`."""
    count = -(-count // multiple)
    step = max(1, (1 << (count - 1).bit_length()) // 16)
    return multiple * step * -(-count // step)
