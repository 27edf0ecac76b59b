"""Pictures cut into tiles (see `tilings`), and what stands for them in a prompt."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from jaxpool.images.patches import Picture
from jaxpool.images.places import mark

LINE, BETWEEN = mark(0), mark(1)  # after a row of vectors, and between the tiles and the whole


class Tiled(NamedTuple):
    """The tiles of a picture row by row, and the whole of it last; no rows where it is that alone.

    pictures: the patches of each; size: height and width of the picture that was cut.
    """

    pictures: tuple[Picture, ...]
    rows: int
    cols: int
    size: tuple[int, int]

    @property
    def vectors(self) -> int:
        """The vectors that a text gets of all."""
        return sum(picture.vectors for picture in self.pictures)

    @property
    def nbytes(self) -> int:
        """Bytes of all patches."""
        return sum(picture.nbytes for picture in self.pictures)

    def grids(self) -> tuple[np.ndarray, np.ndarray]:
        """The numbers of the tiles' vectors, laid out as the picture, and of those of the whole."""
        whole = self.pictures[-1]
        rows, cols = whole.rows // whole.merge, whole.cols // whole.merge
        numbers = np.arange(self.vectors).reshape(-1, rows, cols)
        tiles = numbers[:-1].reshape(self.rows, self.cols, rows, cols).transpose(0, 2, 1, 3)
        return tiles.reshape(self.rows * rows, self.cols * cols), numbers[-1]


@dataclass(frozen=True)
class TileWords:
    """What stands for tiles in a prompt, as patterns of {image}, the placeholder.

    tile: one, at {row} and {col} from 1; end: of a row of them; whole: the picture after them;
    alone: the picture without tiles; start: what precedes the first tile.
    """

    tile: str
    end: str
    whole: str
    alone: str
    start: str = ""

    def write(self, image: str, tiled: Tiled) -> str:
        """The words of a picture, {image} as often as it has vectors."""
        images = iter([image * picture.vectors for picture in tiled.pictures])
        if not tiled.rows:
            return self.alone.format(image=next(images))
        tiles = "".join(self._rows(images, tiled.rows, tiled.cols))
        return self.start + tiles + self.whole.format(image=next(images))

    def _rows(self, images: Iterator[str], rows: int, cols: int) -> Iterator[str]:
        for row in range(1, rows + 1):
            for col in range(1, cols + 1):
                yield self.tile.format(image=next(images), row=row, col=col)
            yield self.end


@dataclass(frozen=True)
class TileGrid:
    """Tiles laid out as one picture, with a learned vector (`Merger.marks`) after each row of it.

    cropped: whether the vectors of what was padded to whole tiles are left out; first: whether the
    whole comes before the tiles; lines: whether its rows have that vector too; between: whether
    another one stands between both.
    """

    cropped: bool
    first: bool
    lines: bool
    between: bool

    def soft(self, tiled: Tiled) -> np.ndarray:
        """The vector of each of its tokens, as `Place` has it."""
        tiles, whole = tiled.grids()
        if self.cropped:
            tiles = _cropped(tiles, *tiled.size)
        parts = [_ended(tiles).ravel(), (_ended(whole) if self.lines else whole).ravel()]
        middle = np.array([BETWEEN] * self.between, int)
        first, last = parts[::-1] if self.first else parts
        return np.concatenate([first, middle, last]).astype(np.int32)


def _ended(grid: np.ndarray) -> np.ndarray:
    return np.pad(grid, ((0, 0), (0, 1)), constant_values=LINE)


def _cropped(grid: np.ndarray, height: int, width: int) -> np.ndarray:
    """What a picture of some size covers of a grid in whose middle it was put (LLaVA-NeXT)."""
    rows, cols = grid.shape
    if width / height > cols / rows:
        beyond = (rows - int(round(height * (cols / width), 7))) // 2
        return grid[beyond : rows - beyond]
    beyond = (cols - int(round(width * (rows / height), 7))) // 2
    return grid[:, beyond : cols - beyond]
