"""Batches of pictures for a vision tower: one picture a row, and where each patch lies in it."""

from collections.abc import Sequence

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
