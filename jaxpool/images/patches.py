"""A picture cut into patches, the squares that a vision tower reads as tokens."""

from typing import NamedTuple

import numpy as np


class Picture(NamedTuple):
    """The patches of a picture, `[rows * cols, side * side * 3]`; values are (y, x, channel).

    They are uint8, but for pictures that were made smaller without rounding (`Patches.dtype`).

    `merge` x `merge` neighbours, which some models join to one token, follow one another; the
    patches of a row of such blocks come before those of the next.
    """

    patches: np.ndarray
    rows: int
    cols: int
    merge: int = 1

    @property
    def vectors(self) -> int:
        """The vectors that a text gets of it, one for each block of `merge` x `merge` patches."""
        return self.rows * self.cols // self.merge**2

    @property
    def nbytes(self) -> int:
        """Bytes of its patches."""
        return self.patches.nbytes

    @property
    def grid(self) -> np.ndarray:
        """Row, column, and number of rows and columns for each patch, int32 `[rows * cols, 4]`."""
        m = self.merge
        rows, cols = np.indices((self.rows, self.cols), np.int32)
        places = np.stack(
            [rows, cols, np.full_like(rows, self.rows), np.full_like(cols, self.cols)]
        )
        blocks = places.reshape(4, self.rows // m, m, self.cols // m, m)
        return blocks.transpose(1, 3, 2, 4, 0).reshape(-1, 4)


def cut(pixels: np.ndarray, side: int, merge: int = 1) -> Picture:
    """The patches of `[height, width, 3]`; what is beyond whole patches is left out."""
    rows, cols = (size // side for size in pixels.shape[:2])
    whole = pixels[: rows * side, : cols * side]
    blocks = whole.reshape(rows // merge, merge, side, cols // merge, merge, side, 3)
    patches = blocks.transpose(0, 3, 1, 4, 2, 5, 6).reshape(rows * cols, -1)
    return Picture(patches, rows, cols, merge)
