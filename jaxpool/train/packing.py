"""A training batch: the texts of all columns, packed in rows as in serving. NumPy only."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from jaxpool.engine.batch import TEXT, Batch, Controls, Request, fill, place, segments_of
from jaxpool.engine.planner import PACKED, bucket_lengths, pack


class TrainingBatch(NamedTuple):
    """What a step reads.

    batch, controls: rows as `forward` and heads take them; where: int32 `[C, B]`, the place of
    each text among the segments of all rows; mask: bool `[B]`, the examples that are there;
    labels: float32 or int32 `[B, ...]`, or None.
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
    types: bool = False,
    adapters: bool = False,
) -> TrainingBatch:
    """Pack the requests of each column; `examples` is the full batch, of which fewer may be there.

    multiple: of the rows (devices of the data axis, chunks). Row counts come from a ladder of
    eight steps to a doubling, so that few shapes are compiled.
    """
    requests = [request for column in columns for request in column]
    sizes = [len(request.ids) for request in requests]
    longest = max(*sizes, min(PACKED, max_length))
    length = next(bucket for bucket in bucket_lengths(max_length) if bucket >= longest)
    members = pack(sizes, (length,))[length]
    plan = place(members, rounded(len(members), multiple), length, sizes)
    reads = TEXT._replace(types=types or None, adapters=adapters or None)
    batch, controls = fill(plan, requests, reads)
    here = len(columns[0])
    where = np.zeros(len(requests), np.int32)
    where[plan.request] = plan.row * segments_of(length) + plan.segment - 1
    spare = ((0, 0), (0, examples - here))
    where = np.pad(where.reshape(len(columns), here), spare)
    if labels is not None:
        labels = labels.astype(np.int32 if labels.dtype.kind in "iu" else np.float32)
        labels = np.pad(labels, [spare[1], *((0, 0),) * (labels.ndim - 1)])
    return TrainingBatch(batch, controls, where, np.arange(examples) < here, labels)


def rounded(count: int, multiple: int) -> int:
    """The next count of a ladder of eight steps to a doubling, in multiples of `multiple`."""
    count = -(-count // multiple)
    step = max(1, (1 << (count - 1).bit_length()) // 16)
    return multiple * step * -(-count // step)
