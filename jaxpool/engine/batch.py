"""Batches: the arrays that go to the device, and how its outputs are read back. NumPy only.

A row of `length` tokens holds one or more requests as segments 1, 2, ...; segment 0 is padding.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Any, NamedTuple

import numpy as np

from jaxpool.engine import chunks as late
from jaxpool.errors import RequestError
from jaxpool.heads import queries
from jaxpool.heads.precision import finite
from jaxpool.heads.queries import Queries

TOKENS_PER_SEGMENT = 4  # a row of T tokens holds at most T / 4 requests,
SEGMENTS = 32  # and never more than these
SLOTS = 128  # results a device gives of a batch where each is as wide as the vocabulary
TOKENS_PER_CHUNK = 8  # a request of T tokens has at most T / 8 chunks, rounded up
NO_CUT = np.iinfo(np.int32).max
UNSEEN = -1


class Batch(NamedTuple):
    """What `forward` reads: int32 `[rows, length]` each; the last three for models that have them.

    `segments` numbers the texts of a row from 1, 0 is padding; `positions` restart in each;
    `adapters` numbers those of the model from 1, 0 is none;
    `context` is a second segment that a token attends to (0: none), a prefix that several texts
    share; `UNSEEN` marks tokens that attend to their text but that no token attends to (query
    expansion).

    In a batch of pictures there are no tokens, and segments count pictures: `pixels` has their
    patches, uint8 `[rows, length, values]`, `grid` the row, column, and number of rows and columns
    of each, int32 `[rows, length, 4]`, for towers that want them.

    Where pictures stand among the tokens of texts, each row has patches of its own, `[rows,
    patches, ...]`, and `images` numbers the pictures of a row from 1, 0 is none; `soft`, int32
    `[rows, length]`, says which of the vectors that the patches become a token has in place of its
    embedding, -1 for none; `coordinates`, int32 `[rows, length, 3]`, are time, row and column of
    each token, for models that turn features by them.

    `memory` has the vectors of documents that a decoder reads beside the tokens (`decoder.Memory`).
    """

    tokens: Any
    segments: Any
    positions: Any
    types: Any = None
    adapters: Any = None
    context: Any = None
    pixels: Any = None
    grid: Any = None
    images: Any = None
    soft: Any = None
    coordinates: Any = None
    memory: Any = None


class Controls(NamedTuple):
    """The options of each request that the heads read on the device, `[rows, segments]` each.

    dimensions: leading features kept (Matryoshka); activate: normalize, softmax, ... or leave raw;
    skip: leading tokens (the prompt) that pooling leaves out; queries: what `similarity.MaxSim`
    compares with, where there is one; chunks: what `heads.PoolChunks` averages, where there is one;
    slots: the texts that `heads.PoolSlots` gives a vector, int32 `[slots]`, each by its place
    row * segments + segment - 1, or -1; words: 1 where a word begins, int32 `[rows, length]`, for
    `heads.Spans`.
    """

    dimensions: Any
    activate: Any
    skip: Any
    queries: Queries | None = None
    chunks: late.Chunks | None = None
    slots: Any = None
    words: Any = None


@dataclass(frozen=True)
class Request:
    """One text, as token ids: what the engine computes on.

    unseen: trailing tokens that no token sees; shared: leading tokens that other requests may have
    too, to be computed once; position: of the first token, which follows that many tokens of the
    first segment of its row; query: token vectors `[T, F]` to be compared with, of which requests
    for the same should share one array; counted: the tokens whose vectors are, all if None;
    spans: tokens `[chunks, 2]` from the first of each chunk up to that after its last, for
    requests whose results are the vectors of chunks; picture: its patches
    (`images.patches.Picture`), for a vision tower, which reads no ids; pictures: those that stand
    among its tokens, soft and coordinates (see `Batch`): of its own tokens, counted from its first
    picture.
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
    query: np.ndarray | None = None
    counted: np.ndarray | None = None
    spans: np.ndarray | None = None
    picture: Any = None
    pictures: tuple = ()
    soft: np.ndarray | None = None
    coordinates: np.ndarray | None = None
    words: np.ndarray | None = None  # 1 for each token that begins a word
    memory: np.ndarray | None = None  # vectors of a document that a decoder reads beside it

    @property
    def sees(self) -> bool:
        """Whether it has pictures, by themselves or among its tokens."""
        return self.picture is not None or bool(self.pictures)

    @property
    def length(self) -> int:
        """What it takes of a row of texts: its tokens, or where more the vectors beside them."""
        if self.memory is None and not self.pictures:  # of every text, so without a detour
            return len(self.ids)
        beside = 0 if self.memory is None else len(self.memory)
        return max(len(self.ids), beside, sum(one.vectors for one in self.pictures))

    @property
    def size(self) -> int:
        """What the device computes on for it: tokens and patches."""
        if not self.sees:
            return len(self.ids)
        if self.picture is not None:
            return len(self.picture.patches)
        return len(self.ids) + sum(len(picture.patches) for picture in self.pictures)


# The dtype and default of each control.
CONTROLS = {"dimensions": (np.int32, NO_CUT), "activate": (np.bool_, True), "skip": (np.int32, 0)}
# What the simplest programs read (see `fill`).
TEXT, PLAIN = Batch(True, True, True), Controls(True, True, True)


class Plan(NamedTuple):
    """The plan of one batch: its shape, and for each request its row, segment and first token."""

    rows: int
    length: int
    request: np.ndarray
    row: np.ndarray
    segment: np.ndarray
    start: np.ndarray


def segments_of(length: int) -> int:
    """How many requests a row of `length` tokens can hold."""
    return max(1, min(length // TOKENS_PER_SEGMENT, SEGMENTS))


def chunks_of(length: int) -> int:
    """How many chunks all requests in a row of `length` tokens can have."""
    return length // TOKENS_PER_CHUNK + segments_of(length)


def slots_of(rows: int, length: int, shards: int = 1) -> int:
    """How many texts of a batch `heads.PoolSlots` gives a vector, on `shards` of the data axis."""
    return min(rows * segments_of(length), shards * SLOTS)


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


def fill(
    p: Plan, requests: Sequence[Request], batch: Batch = TEXT, asked: Controls = PLAIN
) -> tuple[Batch, Controls]:
    """The arrays of one planned batch.

    batch, asked: what its program reads, as `Executor.arguments` describes it: arrays that are
    None there are not made.
    """
    mine = [requests[i] for i in p.request]
    sizes = np.array([len(request.ids) for request in mine])
    within = np.arange(sizes.sum()) - np.repeat(np.cumsum(sizes) - sizes, sizes)
    where = np.repeat(p.row * p.length + p.start, sizes) + within
    first = np.array([request.position for request in mine])

    def scatter(values) -> np.ndarray:
        array = np.zeros((p.rows, p.length), np.int32)
        array.ravel()[where] = values
        return array

    made = Batch(
        scatter(np.concatenate([request.ids for request in mine])),
        scatter(np.repeat(p.segment, sizes)),
        scatter(within + np.repeat(first, sizes)),
        batch.types and scatter(np.concatenate(_types(mine))),
        batch.adapters and scatter(np.repeat([request.adapter for request in mine], sizes)),
        batch.context and scatter(_context(mine, sizes, within)),
    )
    if batch.memory is not None:
        made = made._replace(memory=_memory(p, mine, batch.memory))
    words = asked.words and scatter(np.concatenate([request.words for request in mine]))
    return made, controls(p, mine, segments_of(p.length), asked)._replace(words=words)


def _types(requests: list[Request]) -> list[np.ndarray]:
    return [np.zeros(len(r.ids), np.int32) if r.types is None else r.types for r in requests]


def _context(requests: list[Request], sizes: np.ndarray, within: np.ndarray) -> np.ndarray:
    seen = sizes - [request.unseen for request in requests]
    parents = np.array([request.position > 0 for request in requests], np.int32)
    return np.where(within < np.repeat(seen, sizes), np.repeat(parents, sizes), UNSEEN)


def controls(p: Plan, requests: list[Request], segments: int, reads: Controls = PLAIN) -> Controls:
    """The controls of the requests of a batch, for `segments` of them in each row."""
    columns: dict[str, np.ndarray] = {}
    for name, (dtype, default) in CONTROLS.items():
        columns[name] = np.full((p.rows, segments), default, dtype)
        columns[name][p.row, p.segment - 1] = [getattr(request, name) for request in requests]
    compared = requests[0].query is not None
    return Controls(
        **columns,
        queries=queries.fill(p, requests, segments) if compared else None,
        chunks=reads.chunks and late.fill(p, requests, chunks_of(p.length)),
        slots=None if reads.slots is None else _slots(p, reads.slots.shape),
    )


def _slots(p: Plan, shape: tuple[int, ...]) -> np.ndarray:
    slots = np.full(shape, -1, np.int32)
    slots[: len(p.row)] = p.row * segments_of(p.length) + p.segment - 1
    return slots


def _memory(p: Plan, requests: list[Request], asked: Any) -> Any:
    """The `decoder.Memory` of shapes `asked`: the vectors of each request begin where it does."""
    made = asked._replace(**{n: np.zeros(x.shape, x.dtype) for n, x in asked._asdict().items()})
    for request, row, segment, start in zip(requests, p.row, p.segment, p.start, strict=True):
        if request.memory is None:
            raise RequestError(
                "this model reads a document beside each prompt, which scores of pairs give it"
            )
        mine = slice(start, start + len(request.memory))
        made.vectors[row, mine], made.segments[row, mine] = request.memory, segment
    return made


def unpack(
    p: Plan, output: np.ndarray, requests: Sequence[Request], pooled: bool
) -> Iterable[tuple[int, np.ndarray]]:
    """`(index of the request, result)` for each request of a fetched output.

    The result of a pooled task is `[...]`, or `[chunks, ...]` for late chunking; that of a
    task on tokens is `[tokens, ...]`. An output `[slots, ...]` has one a request, in their order.
    ArithmeticError where a result is not of numbers only.
    """
    indices = p.request.tolist()
    if pooled and output.ndim == 2:
        used = output[: len(indices)].copy()  # the slots that are empty are not kept
        yield from zip(indices, finite(used), strict=True)
        return
    spans = [found for i in indices if (found := requests[i].spans) is not None]
    if pooled and spans:
        counts = list(map(len, spans))
        parts = np.split(finite(output[late.places(p, counts)]), np.cumsum(counts)[:-1])
        yield from zip(indices, parts, strict=True)
        return
    if pooled:
        yield from zip(indices, finite(output[p.row, p.segment - 1]), strict=True)
        return
    for index, row, start in zip(indices, p.row, p.start, strict=True):
        yield index, finite(output[row, start : start + len(requests[index].ids)])


def pad(texts: Sequence[Sequence[int]], length: int | None = None) -> Batch:
    """The simplest batch: one text a row, padded to `length` (the longest if not given)."""
    requests = [Request(np.asarray(ids, np.int32)) for ids in texts]
    length = length or max(len(request.ids) for request in requests)
    lengths = [len(request.ids) for request in requests]
    rows = [[i] for i in range(len(requests))]
    return fill(place(rows, len(rows), length, lengths), requests)[0]
