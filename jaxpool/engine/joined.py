"""Batches of texts with pictures among their tokens: the arrays of text, and the patches beside it.

A row of T tokens has room for the patches of T image tokens, so that its shape follows from T; a
request whose images have more, not all of which get a token, takes as much of a row.
"""

from collections.abc import Sequence

import numpy as np

from jaxpool.engine import batch as batching
from jaxpool.engine.batch import PLAIN, TEXT, Batch, Controls, Plan, Request
from jaxpool.nn.arch import Arch


def weight(arch: Arch) -> int:
    """What the device computes for each token of a row: itself, and its patches."""
    return 1 + (arch.vision.merger.patches if arch.vision and arch.vision.merger else 0)


def fill(
    p: Plan, requests: Sequence[Request], arch: Arch, batch: Batch = TEXT, asked: Controls = PLAIN
) -> tuple[Batch, Controls]:
    """The arrays of one planned batch; `batch` and `asked` as in `batching.fill`."""
    made, controls = batching.fill(p, requests, batch, asked)
    patches = weight(arch) - 1
    slots = (p.rows, p.length * patches)
    facts = arch.vision.patches  # type: ignore[union-attr]
    pixels = np.zeros((*slots, facts.values), facts.dtype)  # type: ignore[union-attr]
    images, grid = np.zeros(slots, np.int32), np.zeros((*slots, 4), np.int32)
    soft = np.full((p.rows, p.length), -1, np.int32)
    filled, count = [0] * p.rows, [0] * p.rows  # patches and pictures of each row
    for i, row, start in zip(p.request, p.row, p.start, strict=True):
        request = requests[i]
        if request.soft is not None:
            mine = request.soft + np.where(request.soft < 0, 0, filled[row] // patches)
            soft[row, start : start + len(mine)] = mine
        for picture in request.pictures:
            here = slice(filled[row], filled[row] + len(picture.patches))
            count[row] += 1
            pixels[row, here], grid[row, here] = picture.patches, picture.grid
            images[row, here] = count[row]
            filled[row] = here.stop
    coordinates = _coordinates(p, requests, made) if arch.axes > 1 else None
    return made._replace(
        pixels=pixels, grid=grid, images=images, soft=soft, coordinates=coordinates
    ), controls


def _coordinates(p: Plan, requests: Sequence[Request], batch: Batch) -> np.ndarray:
    """Time, row and column of each token: its position in texts without pictures."""
    places = np.repeat(batch.positions[..., None], 3, axis=-1)
    for i, row, start in zip(p.request, p.row, p.start, strict=True):
        if (own := requests[i].coordinates) is not None:
            places[row, start : start + len(own)] = own
    return places


def pad(requests: Sequence[Request], arch: Arch) -> Batch:
    """The simplest batch: a request a row, as long as the longest."""
    lengths = [request.length for request in requests]
    rows = [[i] for i in range(len(requests))]
    return fill(batching.place(rows, len(rows), max(lengths), lengths), requests, arch)[0]
