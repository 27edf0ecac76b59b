"""Queries of late interaction as arrays: what the token vectors of a batch are compared with.

A query's token vectors are stored in slots of `TOKENS` vectors each; a longer query takes several.
Every batch has `SLOTS` slots, so the set of shapes is closed. NumPy only.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

TOKENS = 32
SLOTS = 32
MOST = SLOTS * TOKENS  # tokens of a query that fit into a batch


class Queries(NamedTuple):
    """What `similarity.MaxSim` reads.

    vectors: float32 `[SLOTS, TOKENS, F]`; real: bool `[SLOTS, TOKENS]`, the vectors that are there;
    used: an int32 scalar, the slots that are; asked: bool `[B, R, SLOTS]`, the slots of each
    segment's query; counted: bool `[B, T]`, the tokens of segments whose vectors count.
    """

    vectors: Any
    real: Any
    used: Any
    asked: Any
    counted: Any


def pieces(query: np.ndarray) -> int:
    """How many pieces of a query `[T, F]` fit into a batch each."""
    return max(1, -(-len(query) // MOST))


def cut(query: np.ndarray, features: int) -> list[np.ndarray]:
    """A query `[T, F]` in its pieces, with zeros up to all `features`."""
    wide = np.pad(query, ((0, 0), (0, features - query.shape[1])))
    return [wide[i * MOST : (i + 1) * MOST] for i in range(pieces(query))]


def _slots(query: np.ndarray) -> int:
    return -(-len(query) // TOKENS)


def groups(requests: Sequence) -> list[np.ndarray]:
    """The requests, by index, in runs whose queries fit into the slots of one batch."""
    found: list[list[int]] = [[]]
    sizes: dict[int, int] = {}  # slots by the identity of a query
    for index, request in enumerate(requests):
        query = request.query
        if query is not None and id(query) not in sizes:
            size = _slots(query)
            if sum(sizes.values()) + size > SLOTS:
                found.append([])
                sizes = {}
            sizes[id(query)] = size
        found[-1].append(index)
    return [np.array(run) for run in found]


def empty(rows: int, segments: int, length: int, features: int) -> Queries:
    """The arrays of a batch without queries; of any batch of this shape, their shapes."""
    return Queries(
        np.zeros((SLOTS, TOKENS, features), np.float32),
        np.zeros((SLOTS, TOKENS), bool),
        np.zeros((), np.int32),
        np.zeros((rows, segments, SLOTS), bool),
        np.zeros((rows, length), bool),
    )


def fill(plan, requests: Sequence, segments: int) -> Queries:
    """The queries of a planned batch; `requests` are those of the plan, in its order."""
    made = empty(plan.rows, segments, plan.length, requests[0].query.shape[1])
    places: dict[int, slice] = {}
    used = 0
    for request, row, segment, start in zip(
        requests, plan.row, plan.segment, plan.start, strict=True
    ):
        query = request.query
        if id(query) not in places:
            mine = places[id(query)] = slice(used, used + _slots(query))
            made.vectors[mine].reshape(-1, query.shape[1])[: len(query)] = query
            made.real[mine].reshape(-1)[: len(query)] = True
            used = mine.stop
        made.asked[row, segment - 1, places[id(query)]] = True
        counted = made.counted[row, start : start + len(request.ids)]
        counted[slice(None) if request.counted is None else request.counted] = True
    return made._replace(used=np.array(used, np.int32))
