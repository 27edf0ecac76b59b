"""Batches of pictures for a vision tower: their patches, and where each lies in its picture."""

from collections.abc import Sequence

import numpy as np

from jaxpool.engine.batch import Batch, Controls, Plan, Request, controls
from jaxpool.nn.arch import Arch


def sizes(requests: Sequence[Request], arch: Arch, least: int) -> list[int]:
    """What each picture takes of a row: its patches and the tokens before them, or `least`."""
    return [max(least, arch.before_patches + request.size) for request in requests]


def fill(p: Plan, requests: Sequence[Request], arch: Arch, segments: int) -> tuple[Batch, Controls]:
    """The arrays of one planned batch: a row has up to `segments` pictures, one after another."""
    patches, first = arch.patches, arch.before_patches
    assert patches is not None
    mine, shape = [requests[i] for i in p.request], (p.rows, p.length)
    pixels = np.zeros((*shape, patches.values), patches.dtype)
    grid = np.zeros((*shape, 4), np.int32) if arch.gridded else None
    numbers, places = np.zeros(shape, np.int32), np.zeros(shape, np.int32)
    for row, segment, start, request in zip(p.row, p.segment, p.start, mine, strict=True):
        picture = request.picture
        end = start + first + len(picture.patches)
        numbers[row, start:end] = segment
        places[row, start:end] = np.arange(end - start)
        pixels[row, start + first : end] = picture.patches
        if grid is not None:
            grid[row, start + first : end] = picture.grid
    return Batch(None, numbers, places, pixels=pixels, grid=grid), controls(p, mine, segments)
