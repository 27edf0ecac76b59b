"""Where images stand among the tokens of a text: one token for each vector of an image."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from jaxpool.images.patches import Picture


class Place(NamedTuple):
    """The ids of a text with images, and which vector of its images each token has, -1 for none."""

    ids: np.ndarray
    soft: np.ndarray


def spread(
    ids: np.ndarray,
    token: int,
    images: Sequence[bool],
    tokens: Sequence[np.ndarray],
    literal: np.ndarray,
) -> Place:
    """Put an image's tokens at each placeholder, `literal` where that is no image."""
    pieces: list[np.ndarray] = []
    last, left = 0, iter(tokens)
    for at, image in zip(np.flatnonzero(ids == token), images, strict=True):
        pieces += [ids[last:at], next(left) if image else literal]
        last = at + 1  # type: ignore[assignment]
    whole = np.concatenate([*pieces, ids[last:]]).astype(np.int32)
    seen = whole == token
    return Place(whole, np.where(seen, np.cumsum(seen) - 1, -1).astype(np.int32))


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
