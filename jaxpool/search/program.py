"""The compiled part of exact search: a block of the corpus against queries, best k kept.

The scores of a tile of the corpus are one matrix product. Of those, the k best are found by way of
the greatest of each small group: the k best of a row lie in the k groups with the greatest ones,
so that the costly selection sees a fraction of the scores, and loses none.
"""

from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, PartitionSpec

GROUP = 16  # scores of a group
TILES = {"cpu": 2048}  # corpus rows of a product: on a CPU, scores that stay in its cache
TILE = 16384
AXIS = "data"  # the mesh axis that the corpus is split over
EPSILON = 1e-12


class Best(NamedTuple):
    """The best of what was seen: scores and rows of the corpus, `[Q, k]`, the best first."""

    scores: Any
    rows: Any


def start(queries: int, k: int) -> Best:
    """Nothing seen yet."""
    return Best(jnp.full((queries, k), -jnp.inf), jnp.full((queries, k), -1, jnp.int32))


def tile_of(rows: int, platform: str) -> int:
    """Rows of a tile for a block of some rows."""
    return min(TILES.get(platform, TILE), 1 << (max(rows, 1) - 1).bit_length())


def whole(rows: np.ndarray, size: int) -> np.ndarray:
    """Some rows filled up to `size`: a program is compiled for one size."""
    if len(rows) == size:
        return rows
    return np.concatenate([rows, np.zeros((size - len(rows), rows.shape[1]), rows.dtype)])


def select(scores: jax.Array, k: int) -> tuple[jax.Array, jax.Array]:
    """The k greatest of each row `[Q, T]` and their columns; of equal ones the first."""
    queries, count = scores.shape
    if count % GROUP or count // GROUP < k or count <= 4 * k:
        return jax.lax.top_k(scores, k)
    groups = scores.reshape(queries, -1, GROUP)
    _, chosen = select(jnp.max(groups, axis=-1), k)
    chosen = jnp.sort(chosen, axis=1)  # candidates stay in the order of their columns
    candidates = jnp.take_along_axis(groups, chosen[..., None], axis=1).reshape(queries, -1)
    best, place = jax.lax.top_k(candidates, k)
    group = jnp.take_along_axis(chosen, place // GROUP, axis=1)
    return best, group * GROUP + place % GROUP


def merge(best: Best, scores: jax.Array, rows: jax.Array) -> Best:
    """The best of what was seen and of what comes after it."""
    k = best.scores.shape[1]
    scores = jnp.concatenate([best.scores, scores], axis=1)
    rows = jnp.concatenate([best.rows, rows], axis=1)
    top, place = jax.lax.top_k(scores, k)
    return Best(top, jnp.take_along_axis(rows, place, axis=1))


def prepared(queries: jax.Array, score: str) -> jax.Array:
    """Queries as the products take them: of length 1 for cosine, bits as -1 and 1 for hamming."""
    if score == "hamming":
        return signs(queries)
    queries = queries.astype(jnp.float32)
    if score == "cosine":
        norms = jnp.linalg.norm(queries, axis=-1, keepdims=True)
        queries = queries / jnp.maximum(norms, EPSILON)
    return queries


def signs(packed: jax.Array) -> jax.Array:
    """Bits `[N, B]` uint8 as -1 and 1, `[N, 8 B]`: exact in bfloat16."""
    wide = jnp.float32 if jax.default_backend() == "cpu" else jnp.bfloat16
    return jnp.unpackbits(packed, axis=-1).astype(wide) * 2 - 1


def products(queries: jax.Array, rows: jax.Array, score: str) -> jax.Array:
    """Scores `[Q, T]` of prepared queries with rows of a corpus, in float32.

    Of hamming, the bits that differ, negative: more is nearer.
    """
    if score == "hamming":
        dots = jnp.matmul(queries, signs(rows).T, preferred_element_type=jnp.float32)
        return (dots - queries.shape[1]) / 2
    rows = rows.astype(jnp.float32)
    scores = jnp.matmul(queries, rows.T, precision=jax.lax.Precision.HIGHEST)
    if score == "dot":
        return scores
    norms = jnp.sqrt(jnp.sum(rows * rows, axis=-1))
    return scores / jnp.maximum(norms, EPSILON)


def scan(queries: jax.Array, block: jax.Array, count: jax.Array, k: int, tile: int, score: str):
    """The best k of a block `[R, F]` of which the first `count` rows are real."""
    tiles = block.reshape(-1, tile, block.shape[1])

    def step(carry, rows):
        best, first = carry
        scores = products(queries, rows, score)
        real = first + jnp.arange(tile, dtype=jnp.int32) < count
        found, columns = select(jnp.where(real, scores, -jnp.inf), min(k, tile))
        return (merge(best, found, columns + first), first + tile), None

    seen = (start(queries.shape[0], k), jnp.int32(0))
    (best, _), _ = jax.lax.scan(step, seen, tiles)
    return best


@partial(jax.jit, static_argnames=("tile", "score", "mesh"), donate_argnums=(0,))
def search_block(
    best: Best, queries: jax.Array, block: jax.Array, first, count, *, tile, score, mesh=None
) -> Best:
    """`best` after a block of the corpus, whose row 0 is row `first` of it.

    Over a mesh, each device searches its part of the rows; only the k best travel.
    """
    k = best.scores.shape[1]
    first, count = jnp.int32(first), jnp.int32(count)
    search = partial(scan, k=k, tile=tile, score=score)
    found = (
        search(queries, block, count)
        if mesh is None
        else _sharded(mesh, search)(queries, block, count)
    )
    return merge(best, found.scores, found.rows + first)


def _sharded(mesh: Mesh, search):
    def local(queries, block, count):
        begin = jax.lax.axis_index(AXIS).astype(jnp.int32) * block.shape[0]
        found = search(queries, block, count - begin)
        return Best(found.scores, found.rows + begin)

    whole, rows, side = PartitionSpec(), PartitionSpec(AXIS), PartitionSpec(None, AXIS)
    return jax.shard_map(
        local,
        mesh=mesh,
        in_specs=(whole, rows, whole),
        out_specs=Best(side, side),
        check_vma=False,
    )
