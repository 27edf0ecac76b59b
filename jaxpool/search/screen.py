"""Exact search of a large corpus in two passes: a screening in bfloat16, then few exact scores.

Products of bfloat16 are several times faster than those of float32, and their error has a bound
(Cauchy and Schwarz: both sides round by 2^-8 at most). So the screening gives each group of rows an
upper bound of its scores. Groups are then scored exactly in the order of their bounds, until a
query's k-th best score lies above the next bound: no other row can be among its best. (The
threshold algorithm of Fagin, Lotem and Naor, 2001.)
"""

from collections import deque
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

from jaxpool.engine.planner import IN_FLIGHT
from jaxpool.search import program
from jaxpool.search.program import GROUP, Best

LEAST = 65_536  # rows of a corpus that is worth two passes
MOST = 64  # the largest k that is
ROWS = {"cpu": 8192}  # rows on the device at once: on a CPU, memory that is used again
SELECTED = 131_072  # rows whose groups are compared at once
STEP, QUERIES = 32, 32  # groups and queries scored exactly at once


def bounds(queries: jax.Array, rows: jax.Array, score: str) -> jax.Array:
    """Numbers `[Q, T]` that no exact score exceeds; queries as `program.prepared` gives them."""
    rows = rows.astype(jnp.float32)
    narrow, other = queries.astype(jnp.bfloat16), rows.astype(jnp.bfloat16)
    last = (((1,), (1,)), ((), ()))
    dots = jax.lax.dot_general(narrow, other, last, preferred_element_type=jnp.float32)
    slack = 2**-7 * (1 + 2**-8) + rows.shape[1] * 2**-23
    norms = jnp.sqrt(jnp.sum(rows * rows, axis=-1))
    if score == "cosine":
        return dots / jnp.maximum(norms, program.EPSILON) + slack
    lengths = jnp.sqrt(jnp.sum(queries * queries, axis=-1, keepdims=True))
    return dots + slack * lengths * norms


@partial(jax.jit, static_argnames=("tile", "score"))
def group_bounds(queries: jax.Array, block: jax.Array, count, *, tile: int, score: str):
    """The greatest bound of each group `[Q, R / GROUP]` of a block of `count` real rows."""
    firsts = jnp.arange(0, tile, GROUP, dtype=jnp.int32)

    def step(first, rows):
        found = bounds(queries, rows, score).reshape(len(queries), -1, GROUP).max(axis=-1)
        real = first + firsts < jnp.int32(count)
        return first + tile, jnp.where(real, found, -jnp.inf)

    tiles = block.reshape(-1, tile, block.shape[1])
    _, found = jax.lax.scan(step, jnp.int32(0), tiles)
    return jnp.moveaxis(found, 0, 1).reshape(len(queries), -1)


@partial(jax.jit, donate_argnums=0)
def keep(best: Best, found: list[jax.Array], first) -> Best:
    """The best groups of those so far and of further ones, which begin at group `first`."""
    whole = jnp.concatenate(found, axis=1)
    scores, groups = program.select(whole, min(best.scores.shape[1], whole.shape[1]))
    return program.merge(best, scores, groups + jnp.int32(first))


@partial(jax.jit, static_argnums=2)
def exact(queries: jax.Array, candidates: jax.Array, score: str) -> jax.Array:
    """Scores `[Q, C]` of each prepared query with its own candidates `[Q, C, F]`."""
    candidates = candidates.astype(jnp.float32)
    dots = jnp.einsum("qf,qcf->qc", queries, candidates, precision=jax.lax.Precision.HIGHEST)
    if score == "dot":
        return dots
    norms = jnp.sqrt(jnp.sum(candidates * candidates, axis=-1))
    return dots / jnp.maximum(norms, program.EPSILON)


def screen(parts: list, rows: np.ndarray, many: int, score: str, most: int) -> list[Best]:
    """The `many` groups with the greatest bounds, for each part of the queries."""
    platform = jax.default_backend()
    most = min(ROWS.get(platform, most), most, len(rows))
    tile = max(program.tile_of(most, platform), GROUP)
    size = -(-most // tile) * tile
    best = [program.start(len(part), many) for part in parts]
    together = max(1, SELECTED // size) * size
    nothing = [jnp.full((len(part), size // GROUP), -jnp.inf) for part in parts]
    running: deque = deque()
    for begin in range(0, len(rows), together):
        found: list[list] = [[] for _ in parts]
        for first in range(begin, begin + together, size):
            real = rows[first : first + size]
            block = jax.device_put(program.whole(real, size)) if len(real) else None
            for part, each, none in zip(parts, found, nothing, strict=True):
                counted = partial(group_bounds, part, block, len(real), tile=tile, score=score)
                each.append(none if block is None else counted())
            running.append(found[-1][-1])
            if len(running) > IN_FLIGHT:  # or blocks would be read ahead of the device without end
                running.popleft().block_until_ready()
        best = [keep(b, each, begin // GROUP) for b, each in zip(best, found, strict=True)]
    return best


def settle(queries, groups: Best, rows: np.ndarray, k: int, score: str):
    """Exact scores `[Q, k]` of the best rows of some groups, these, and which queries are sure."""
    queries, limits, numbers = (np.asarray(x) for x in (queries, *groups))
    scores = np.full((len(queries), k), -np.inf, np.float32)
    found = np.full((len(queries), k), len(rows), np.int64)
    sure, begin = np.zeros(len(queries), bool), 0
    while begin < limits.shape[1] and not sure.all():
        for some in np.split(left := np.flatnonzero(~sure), range(QUERIES, (~sure).sum(), QUERIES)):
            now = _candidates(numbers[some, begin : begin + STEP], len(rows))
            more = _scored(queries[some], rows, now, score)
            both = np.concatenate([scores[some], more], axis=1)
            names = np.concatenate([found[some], now], axis=1)
            order = np.lexsort((names, -both), axis=1)[:, :k]
            scores[some] = np.take_along_axis(both, order, axis=1)
            found[some] = np.take_along_axis(names, order, axis=1)
        begin += STEP
        following = limits[left, min(begin, limits.shape[1] - 1)]
        sure[left] = (scores[left, -1] > following) | np.isneginf(following)
    return scores, found, sure


def _candidates(groups: np.ndarray, count: int) -> np.ndarray:
    """The rows of groups `[Q, C]`; `count` where there is none."""
    rows = (groups[..., None].astype(np.int64) * GROUP + np.arange(GROUP)).reshape(len(groups), -1)
    return np.where((rows < 0) | (rows > count), count, rows)


def _scored(queries: np.ndarray, rows: np.ndarray, names: np.ndarray, score: str) -> np.ndarray:
    real = names < len(rows)
    candidates = rows[np.minimum(names, len(rows) - 1)]
    short = QUERIES - len(queries)  # one shape is compiled
    candidates = np.pad(candidates, ((0, short), (0, 0), (0, 0))) if short else candidates
    found = exact(np.pad(queries, ((0, short), (0, 0))), candidates, score)
    return np.where(real, np.asarray(found)[: len(names)], -np.inf)
