"""Batches of pictures for a vision tower: one picture a row, and where each patch lies in it."""

import hashlib
from collections.abc import Iterator, Sequence
from typing import Any

import jax
import numpy as np

from jaxpool.engine.batch import Batch, Controls, Plan, Request, controls
from jaxpool.nn.arch import Patches


def fill(
    p: Plan, requests: Sequence[Request], patches: Patches, first: int
) -> tuple[Batch, Controls]:
    """The arrays of one planned batch, whose rows hold a picture each, its patches from `first`."""
    mine = [requests[i] for i in p.request]
    pixels = np.zeros((p.rows, p.length, patches.values), np.uint8)
    grid = np.zeros((p.rows, p.length, 4), np.int32) if patches.stretched else None
    sizes = np.zeros((p.rows, 1), np.int32)
    for row, request in zip(p.row, mine, strict=True):
        picture = request.picture
        end = first + len(picture.patches)
        sizes[row] = end
        pixels[row, first:end] = picture.patches
        if grid is not None:
            grid[row, first:end] = picture.grid
    places = np.broadcast_to(np.arange(p.length, dtype=np.int32), (p.rows, p.length))
    segments = (places < sizes).astype(np.int32)
    batch = Batch(None, segments, places * segments, pixels=pixels, grid=grid)
    return batch, controls(p, mine, 1)


def run_distinct(engine, task, requests: Sequence[Request]) -> Iterator[tuple[int, Any]]:
    """`engine.run` of requests of pictures, of which equal ones are computed once."""
    groups: dict[tuple, list[int]] = {}
    for i, request in enumerate(requests):
        groups.setdefault(_content(request), []).append(i)
    alike = list(groups.values())
    for i, result in engine.run(task, [requests[group[0]] for group in alike]):
        first, *others = alike[i]
        yield first, result
        for other in others:  # a caller may write into what it gets
            yield other, jax.tree.map(np.copy, result)


def _content(request: Request) -> tuple:
    """What the result of a picture depends on; its patches, and a query, by their hash."""
    picture, query = request.picture, request.query
    asked = None if query is None else (query.shape, _hash(query))
    own = (request.dimensions, request.activate, request.adapter, asked)
    return _hash(picture.patches), picture.rows, picture.cols, *own


def _hash(array: np.ndarray) -> bytes:
    return hashlib.blake2b(array.tobytes(), digest_size=16).digest()
