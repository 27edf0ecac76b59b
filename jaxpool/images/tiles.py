"""Pictures cut into square tiles, each of which a vision tower reads like a picture (Idefics3)."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from jaxpool.images.patches import Picture


class Tiled(NamedTuple):
    """The tiles of a picture row by row, and the whole of it last; no rows where it is that alone.

    pictures: the patches of each.
    """

    pictures: tuple[Picture, ...]
    rows: int
    cols: int

    @property
    def nbytes(self) -> int:
        """Bytes of all patches."""
        return sum(picture.nbytes for picture in self.pictures)


@dataclass(frozen=True)
class Tiling:
    """How pictures are cut.

    side: pixels of a tile's side; split: whether there are tiles beside the whole.
    """

    side: int
    split: bool = True

    def most(self, edge: int) -> int:
        """The most tiles, and the whole, of a picture whose longer side has `edge` pixels."""
        return math.ceil((edge + 1) / self.side) ** 2 + 1 if self.split else 1

    def __call__(self, image, resample: int) -> tuple[list[np.ndarray], int, int]:
        """The pixels of the tiles of a `PIL.Image`, their rows and columns."""
        side = self.side
        if not self.split:
            return [np.asarray(image.resize((side, side), resample))], 0, 0
        image = image.resize(self._whole_tiles(image.width, image.height), resample)
        rows, cols = image.height // side, image.width // side
        if rows == cols == 1:
            return [np.asarray(image)], 0, 0
        pixels = np.asarray(image)
        tiles = [
            pixels[row * side : (row + 1) * side, col * side : (col + 1) * side]
            for row in range(rows)
            for col in range(cols)
        ]
        return [*tiles, np.asarray(image.resize((side, side), resample))], rows, cols

    def _whole_tiles(self, width: int, height: int) -> tuple[int, int]:
        """The width and height in whole tiles, the longer side's first."""
        aspect = width / height
        up = lambda size: math.ceil(size / self.side) * self.side  # noqa: E731
        if width >= height:
            width = up(width)
            return width, up(int(width / aspect))
        height = up(height)
        return up(int(height * aspect)), height


@dataclass(frozen=True)
class TileWords:
    """What stands for tiles in a prompt, as patterns of {image}, the placeholder.

    tile: one, at {row} and {col} from 1; end: of a row of them; whole: the picture after them;
    alone: the picture without tiles.
    """

    tile: str
    end: str
    whole: str
    alone: str

    def write(self, image: str, rows: int, cols: int) -> str:
        """The words of a picture."""
        if not rows:
            return self.alone.format(image=image)
        return "".join(self._rows(image, rows, cols)) + self.whole.format(image=image)

    def _rows(self, image: str, rows: int, cols: int) -> Iterator[str]:
        for row in range(1, rows + 1):
            for col in range(1, cols + 1):
                yield self.tile.format(image=image, row=row, col=col)
            yield self.end


def expanded(ids: np.ndarray, token: int, pictures: Sequence[Picture]) -> np.ndarray:
    """The ids of a picture's words, with as many of `token` as each tile has vectors."""
    each = iter(pictures)
    parts = [next(each).tokens(token) if i == token else [i] for i in ids]
    return np.concatenate(parts).astype(np.int32)
