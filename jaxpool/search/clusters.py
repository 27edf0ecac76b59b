"""Near duplicates, communities and k-means of vectors."""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxpool.search import program
from jaxpool.search.sources import vectors

ROWS = 4096  # rows compared at once
ASSIGNED = 65536  # rows assigned to clusters at once


@partial(jax.jit, static_argnames="score")
def _near(a: jax.Array, b: jax.Array, threshold: float, score: str = "cosine"):
    scores = program.products(program.prepared(a, score), b, score)
    return scores >= threshold, scores


def _filled(rows: np.ndarray, first: int) -> np.ndarray:
    """A block of rows, whole: its shape is compiled once."""
    block = np.asarray(rows[first : first + ROWS], np.float32)
    size = min(ROWS, len(rows))
    return np.pad(block, ((0, size - len(block)), (0, 0)))


def deduplicate(embeddings: Any, threshold: float = 0.95) -> np.ndarray:
    """The rows to keep, in order: each that has no earlier kept row at a cosine >= threshold."""
    rows = vectors(embeddings)
    kept = np.ones(len(rows), bool)
    for first in range(0, len(rows), ROWS):
        block = _filled(rows, first)
        count = min(ROWS, len(rows) - first)
        for earlier in range(0, first, ROWS):
            near = np.asarray(_near(block, _filled(rows, earlier), threshold)[0])
            near = near[:count, : len(rows) - earlier] & kept[None, earlier : earlier + ROWS]
            kept[first : first + count] &= ~near.any(axis=1)
        near = np.asarray(_near(block, block, threshold)[0])[:count, :count]
        for i in np.flatnonzero(np.tril(near, -1).any(axis=1)).tolist():
            own = kept[first : first + i]
            kept[first + i] &= not (near[i, :i] & own).any()
    return np.flatnonzero(kept)


def community_detection(
    embeddings: Any, threshold: float = 0.75, min_community_size: int = 10
) -> list[list[int]]:
    """Groups of rows around a centre, each within `threshold` (cosine) of it, the largest first.

    A row is in one group, its centre comes first. As sentence-transformers' function of this name.
    """
    rows = vectors(embeddings)
    found: list[tuple[int, np.ndarray]] = []
    for first in range(0, len(rows), ROWS):
        count = min(ROWS, len(rows) - first)
        parts = [
            _near(_filled(rows, first), _filled(rows, i), threshold)
            for i in range(0, len(rows), ROWS)
        ]
        near, scores = (
            np.concatenate([np.asarray(part[i])[:count] for part in parts], axis=1)[:, : len(rows)]
            for i in (0, 1)
        )
        for i in np.flatnonzero(near.sum(axis=1) >= min_community_size):
            members = np.flatnonzero(near[i])
            order = np.argsort(-scores[i, members], kind="stable")
            found.append((first + int(i), members[order]))
    return _disjoint(found, len(rows), min_community_size)


def _disjoint(found: list, count: int, least: int) -> list[list[int]]:
    """Groups without the rows of larger ones, where enough is left."""
    used, groups = np.zeros(count, bool), []
    for centre, members in sorted(found, key=lambda each: len(each[1]), reverse=True):
        left = members[~used[members]]
        if used[centre] or len(left) < least:
            continue
        groups.append([centre, *left[left != centre].tolist()])
        used[groups[-1]] = True
    return sorted(groups, key=len, reverse=True)


@jax.jit
def _assign(rows: jax.Array, real: jax.Array, centroids: jax.Array):
    """The nearest centroid of each row; sums and counts of each centroid's, and their distance."""
    highest = jax.lax.Precision.HIGHEST
    dots = jnp.matmul(rows, centroids.T, precision=highest)
    distances = jnp.sum(centroids * centroids, axis=1) - 2 * dots
    nearest = jnp.argmin(distances, axis=1)
    mine = jax.nn.one_hot(nearest, len(centroids), dtype=jnp.float32) * real[:, None]
    least = jnp.min(distances, axis=1) + jnp.sum(rows * rows, axis=1)
    sums = jnp.matmul(mine.T, rows, precision=highest)
    return nearest, sums, mine.sum(axis=0), jnp.sum(least * real)


def kmeans(
    embeddings: Any,
    clusters: int,
    *,
    iterations: int = 20,
    tolerance: float = 1e-4,
    seed: int = 0,
    start: Any = None,
) -> tuple[np.ndarray, np.ndarray]:
    """Lloyd's algorithm: centroids `[clusters, F]` and the cluster of each row `[N]`.

    start: the first centroids (otherwise rows chosen at random by `seed`). It ends when the mean
    squared distance falls by less than `tolerance` of itself, or after `iterations`.
    A centroid that has lost all its rows stays where it is.
    """
    rows = vectors(embeddings)
    if not 1 <= clusters <= len(rows):
        raise ValueError(f"clusters must be from 1 to the {len(rows)} rows, got {clusters}")
    chosen = np.sort(np.random.default_rng(seed).choice(len(rows), clusters, replace=False))
    centroids = np.asarray(rows[chosen] if start is None else start, np.float32)
    before = np.inf
    for _ in range(iterations):
        _, sums, counts, cost = _pass(rows, centroids)
        moved = sums / np.maximum(counts, 1)[:, None]
        centroids = np.where(counts[:, None] > 0, moved, centroids).astype(np.float32)
        if before - cost <= tolerance * cost:
            break
        before = cost
    return centroids, _pass(rows, centroids)[0]


def _pass(
    rows: np.ndarray, centroids: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray, float]:
    """Assign every row, a block at a time."""
    size, nearest = min(ASSIGNED, len(rows)), []
    sums, counts, cost = np.zeros(centroids.shape), np.zeros(len(centroids)), 0.0
    for first in range(0, len(rows), size):
        block = np.asarray(rows[first : first + size], np.float32)
        real = np.arange(size) < len(block)
        block = np.pad(block, ((0, size - len(block)), (0, 0)))
        own, added, many, distance = _assign(block, real.astype(np.float32), centroids)
        nearest.append(np.asarray(own)[real])
        sums, counts, cost = sums + added, counts + many, cost + float(distance)
    return np.concatenate(nearest), sums, counts, cost
