"""Exact search by MaxSim: token vectors of queries against those of a corpus, best k kept.

Documents are put together by their lengths, each class of lengths in blocks of one shape. So few
programs are compiled, little is padding, and a block is read when it is full.
"""

from collections import deque
from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from jaxpool.engine.planner import IN_FLIGHT
from jaxpool.heads.similarity import EMPTY
from jaxpool.search import program
from jaxpool.search.program import AXIS, Best

AT_ONCE = {"cpu": 1 << 20}  # similarities (query tokens x document tokens) of a product,
MOST = 1 << 24  # and where none is named


class Block(NamedTuple):
    """Token vectors `[N, T, F]`, how many of each are real, and the rows they are (-1: none)."""

    vectors: Any
    lengths: Any
    rows: Any


def scores(queries: Block, documents: Block, tile: int) -> jax.Array:
    """MaxSim `[Q, N]` of all pairs, `tile` documents at once; `EMPTY` of one without tokens."""
    count, asked, width = queries.vectors.shape
    tokens = documents.vectors.shape[1]
    flat = queries.vectors.astype(jnp.float32).reshape(-1, width)
    counted = jnp.arange(asked, dtype=jnp.int32) < queries.lengths[:, None]

    def step(_, part):
        vectors, lengths = part
        vectors = vectors.astype(jnp.float32).reshape(-1, width)
        similar = jnp.matmul(flat, vectors.T, precision=jax.lax.Precision.HIGHEST)
        similar = similar.reshape(count, asked, tile, tokens)
        real = jnp.arange(tokens, dtype=jnp.int32) < lengths[:, None]
        best = jnp.max(similar, axis=-1, where=real, initial=jnp.finfo(jnp.float32).min)
        total = jnp.sum(best, axis=1, where=counted[..., None])
        return None, jnp.where(lengths > 0, total, EMPTY)

    tiles = [x.reshape(-1, tile, *x.shape[1:]) for x in (documents.vectors, documents.lengths)]
    found = jax.lax.scan(step, None, tuple(tiles))[1]
    return jnp.moveaxis(found, 0, 1).reshape(count, -1)


def best_of(queries: Block, documents: Block, k: int, tile: int) -> Best:
    """The best k of some documents, of equal ones the first."""
    found = jnp.where(documents.rows >= 0, scores(queries, documents, tile), -jnp.inf)
    top, columns = program.select(found, min(k, found.shape[1]))
    return Best(top, documents.rows[columns])


@partial(jax.jit, static_argnames=("tile", "mesh"), donate_argnums=0)
def search_block(
    best: Best, queries: Block, documents: Block, *, tile: int, mesh: Mesh | None = None
) -> Best:
    """`best` after some documents. Over a mesh, each device searches its part of them."""
    k = best.scores.shape[1]
    search: Any = partial(best_of, k=k, tile=tile)
    if mesh is not None:
        part, side = PartitionSpec(AXIS), PartitionSpec(None, AXIS)
        search = jax.shard_map(
            search,
            mesh=mesh,
            in_specs=(PartitionSpec(), part),
            out_specs=Best(side, side),
            check_vma=False,
        )
    found = search(queries, documents)
    both = [jnp.concatenate(each, axis=1) for each in zip(best, found, strict=True)]
    # Blocks do not come in the order of their rows, by which equal scores are ordered.
    lowest, rows = jax.lax.sort((-both[0], both[1]), dimension=1, num_keys=2)
    return Best(-lowest[:, :k], rows[:, :k])


def filled(vectors: list[np.ndarray], rows: Sequence[int], count: int, tokens: int) -> Block:
    """Token vectors as a block of `count` by `tokens`."""
    out = np.zeros((count, tokens, vectors[0].shape[1]), vectors[0].dtype)
    lengths, names = np.zeros(count, np.int32), np.full(count, -1, np.int32)
    for i, own in enumerate(vectors):
        out[i, : len(own)], lengths[i], names[i] = own, len(own), rows[i]
    return Block(out, lengths, names)


def blocks(corpus: Sequence, tokens: int, shards: int) -> Iterator[Block]:
    """All documents, in blocks of about so many tokens, padding among them."""
    waiting: dict[int, list[int]] = {}

    def block(length: int) -> Block:
        rows = waiting.pop(length)
        count = _power(-(-len(rows) // shards)) * shards
        return filled([np.asarray(corpus[row]) for row in rows], rows, count, length)

    for row in range(len(corpus)):
        length = _power(len(corpus[row]))
        waiting.setdefault(length, []).append(row)
        if len(waiting[length]) >= shards * _power(tokens // (length * shards)):
            yield block(length)
    for length in sorted(waiting):
        yield block(length)


def _power(number: int) -> int:
    """The power of two that a number fits in."""
    return 1 << (max(1, number) - 1).bit_length()


def top_k(
    queries: Sequence, corpus: Sequence, k: int, chunk: int, tokens: int, mesh: Mesh | None
) -> Best:
    """Scores and rows `[Q, k]` of sequences of token vectors (see `jaxpool.search.top_k`)."""
    k, asked = min(k, len(corpus)), [np.asarray(query) for query in queries]
    if not asked or not k:
        return Best(np.empty((len(asked), k), np.float32), np.empty((len(asked), k), np.int32))
    _check(asked, corpus)
    groups = [asked[i : i + chunk] for i in range(0, len(asked), chunk)]
    parts = [jax.device_put(_asked(group)) for group in groups]
    best = [program.start(len(part.lengths), k) for part in parts]
    shards = 1 if mesh is None else mesh.shape[AXIS]
    place = None if mesh is None else NamedSharding(mesh, PartitionSpec(AXIS))
    waiting: deque = deque()
    for block in blocks(corpus, tokens, shards):
        documents = jax.device_put(block, place)
        own = len(block.rows) // shards
        best = [
            search_block(b, part, documents, tile=_tile(part, block, own), mesh=mesh)
            for b, part in zip(best, parts, strict=True)
        ]
        waiting.append(documents)
        if len(waiting) > IN_FLIGHT:  # or blocks would be read ahead of the device without end
            waiting.popleft()
            jax.block_until_ready(best)
    pairs = zip(best, groups, strict=True)
    found = [[np.asarray(x)[: len(group)] for x in b] for b, group in pairs]
    return Best(*(np.concatenate(each) for each in zip(*found, strict=True)))


def _asked(queries: list[np.ndarray]) -> Block:
    tokens = _power(max(map(len, queries)))
    return filled(queries, range(len(queries)), _power(len(queries)), tokens)


def _tile(queries: Block, documents: Block, own: int) -> int:
    """Documents of a product, a divisor of the `own` ones of a device."""
    similar = queries.vectors.shape[0] * queries.vectors.shape[1] * documents.vectors.shape[1]
    most = max(1, min(AT_ONCE.get(jax.default_backend(), MOST) // similar, own))
    return next(size for size in range(most, 0, -1) if own % size == 0)


def _check(queries: list[np.ndarray], corpus: Sequence) -> None:
    shapes = {np.shape(query)[1:] for query in queries} | {np.shape(corpus[0])[1:]}
    if len(shapes) > 1 or any(len(shape) != 1 for shape in shapes):
        raise ValueError(f"token vectors are [T, F] of one F, got {sorted(shapes)} after T")
