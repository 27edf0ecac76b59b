"""How pictures are cut into square tiles, each of which a vision tower reads like a picture.

Each rule gives the tiles of a `PIL.Image` row by row and then its whole, their rows and columns; no
rows where there is the whole alone. They round exactly as the models were trained.
"""

import math
from dataclasses import dataclass

import numpy as np

from jaxpool.images.resize import LongestEdge, Rule

Tiles = tuple[list[np.ndarray], int, int]  # pixels, rows, columns


@dataclass(frozen=True)
class WholeTiles:
    """Sides are stretched to whole tiles (Idefics3).

    side: pixels of a tile's side; split: whether there are tiles beside the whole.
    """

    side: int
    split: bool = True

    def most(self, resize: Rule | None) -> int:
        """The most tiles, and the whole, of a resized picture; 0 where that has no end."""
        if not self.split:
            return 1
        edge = resize.edge if isinstance(resize, LongestEdge) else 0
        return math.ceil((edge + 1) / self.side) ** 2 + 1 if edge else 0

    def __call__(self, image, resample: int) -> Tiles:
        """The tiles of a picture."""
        side = self.side
        if not self.split:
            return [np.asarray(image.resize((side, side), resample))], 0, 0
        image = image.resize(self._whole_tiles(image.width, image.height), resample)
        rows, cols = image.height // side, image.width // side
        if rows == cols == 1:
            return [np.asarray(image)], 0, 0
        whole = np.asarray(image.resize((side, side), resample))
        return [*_squares(np.asarray(image), side), whole], rows, cols

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
class NearestAspect:
    """At most `tiles` tiles, in a grid whose aspect ratio is near the picture's (Eagle 2).

    A nearer ratio is worth more, and so is a larger grid, up to 60 % of the picture's pixels.

    side: pixels of a tile's side; split: whether there are tiles; whole: whether the whole comes
    after several of them.
    """

    side: int
    tiles: int
    split: bool = True
    whole: bool = True

    def most(self, resize: Rule | None) -> int:
        """The most tiles, and the whole."""
        tiles = self.tiles if self.split else 1
        return tiles + (self.whole and tiles > 1)

    def __call__(self, image, resample: int) -> Tiles:
        """The tiles of a picture; without a whole, a single row of them stands for one."""
        side = self.side
        cols, rows = self._grid(image.width, image.height) if self.split else (1, 1)
        tiles = _squares(np.asarray(image.resize((cols * side, rows * side), resample)), side)
        if rows == cols == 1:
            return tiles, 0, 0
        if self.whole:
            tiles.append(np.asarray(image.resize((side, side), resample)))
        return tiles, rows, cols

    def _grid(self, width: int, height: int) -> tuple[int, int]:
        """Columns and rows; of grids of equal worth the one of the fewest tiles."""
        sides = range(1, self.tiles + 1)
        grids = [(cols, rows) for cols in sides for rows in sides if cols * rows <= self.tiles]
        grids.sort(key=math.prod)
        aspect, area = width / height, width * height

        def worth(grid: tuple[int, int]) -> float:
            ratio = grid[0] / grid[1]
            share = math.prod(grid) * self.side**2 / area
            return min(share, 0.6) * min(ratio / aspect, aspect / ratio)

        return max(grids, key=worth)


def _squares(pixels: np.ndarray, side: int) -> list[np.ndarray]:
    """The whole squares of `[height, width, 3]`, row by row."""
    height, width = (size // side * side for size in pixels.shape[:2])
    return [
        pixels[top : top + side, left : left + side]
        for top in range(0, height, side)
        for left in range(0, width, side)
    ]


Tiling = WholeTiles | NearestAspect
