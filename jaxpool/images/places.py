"""Where images stand among the tokens of a text: one token for each vector that it gets of them."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from jaxpool.images.patches import Picture

TEXT = -1  # in place of a vector's number; below it those of the learned ones, counted down


class Place(NamedTuple):
    """The ids of a text with images, and which vector of its images each token has.

    soft: its number, `TEXT` for none, and less for those that a model has learned (`mark`).
    """

    ids: np.ndarray
    soft: np.ndarray


def mark(number: int) -> int:
    """What stands in `Place.soft` for a learned vector (`Merger.marks`)."""
    return TEXT - 1 - number


def of_text(ids: np.ndarray, token: int | None = None) -> Place:
    """The place of ids where each `token` has the next vector, and others none."""
    seen = ids == token
    return Place(ids, np.where(seen, np.cumsum(seen) - 1, TEXT).astype(np.int32))


def spread(
    ids: np.ndarray,
    token: int,
    images: Sequence[bool],
    places: Sequence[tuple[Place, int]],
    literal: np.ndarray,
) -> Place:
    """Put an image's place at each placeholder, `literal` where that is no image.

    places: of each image, and how many vectors it has.
    """
    pieces: list[Place] = []
    last, seen, left = 0, 0, iter(places)
    for at, image in zip(np.flatnonzero(ids == token), images, strict=True):
        pieces.append(of_text(ids[last:at]))
        last = at + 1  # type: ignore[assignment]
        if not image:
            pieces.append(of_text(literal))
            continue
        (own, soft), count = next(left)
        pieces.append(Place(own, np.where(soft < 0, soft, soft + seen)))
        seen += count
    pieces.append(of_text(ids[last:]))
    return Place(*(np.concatenate(part).astype(np.int32) for part in zip(*pieces, strict=True)))


def coordinates(place: Place, pictures: Sequence[Picture]) -> np.ndarray:
    """Time, row and column of each token, int32 `[T, 3]` (M-RoPE, arXiv 2409.12191).

    A text counts on in all three; the tokens of an image share a time, and have its rows and
    columns. What follows comes after the longest of these.
    """
    found = np.empty((len(place.ids), 3), np.int32)
    starts = np.flatnonzero(place.soft >= 0)
    at = position = seen = 0
    for picture in pictures:
        rows, cols = picture.rows // picture.merge, picture.cols // picture.merge
        first = int(starts[seen])
        found[at:first] = np.arange(position, position + first - at)[:, None]
        position += first - at
        grid = np.stack([np.zeros((rows, cols), np.int32), *np.indices((rows, cols), np.int32)], -1)
        found[first : first + rows * cols] = position + grid.reshape(-1, 3)
        position += max(rows, cols)
        at, seen = first + rows * cols, seen + rows * cols
    found[at:] = np.arange(position, position + len(found) - at)[:, None]
    return found
