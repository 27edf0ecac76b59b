"""How pictures are cut into square tiles, each of which a vision tower reads like a picture.

Each rule gives the tiles of a `PIL.Image` row by row and then its whole, their rows and columns; no
rows where there is the whole alone. They round exactly as the models were trained.
"""

import math
from dataclasses import dataclass

import numpy as np

from jaxpool.errors import RequestError
from jaxpool.images.resize import LongestEdge, Rule

TRANSPOSE = 5  # Pillow's number
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


@dataclass(frozen=True)
class BestSize:
    """One of some sizes, into whose middle a picture is put, as large as it fits (LLaVA-NeXT).

    It is the size that keeps most of the picture's pixels, then the one with the least around it.

    side: pixels of a tile's side; sizes: heights and widths, in whole tiles.
    """

    side: int
    sizes: tuple[tuple[int, int], ...]

    def most(self, resize: Rule | None) -> int:
        """The most tiles, and the whole."""
        return max(height * width for height, width in self.sizes) // self.side**2 + 1

    def __call__(self, image, resample: int) -> Tiles:
        """The tiles of a picture, black where there is none of it."""
        height, width = self._best(image.height, image.width)
        pixels = np.asarray(image.resize(_inside(image, height, width), resample))
        around = [
            ((size - own) // 2, (size - own + 1) // 2)
            for size, own in zip((height, width), pixels.shape, strict=False)
        ]
        tiles = _squares(np.pad(pixels, (*around, (0, 0))), self.side)
        whole = np.asarray(image.resize((self.side, self.side), resample))
        return [*tiles, whole], height // self.side, width // self.side

    def _best(self, height: int, width: int) -> tuple[int, int]:
        def worth(size: tuple[int, int]) -> tuple[int, int]:
            scale = min(size[1] / width, size[0] / height)
            kept = min(int(width * scale) * int(height * scale), width * height)
            return kept, kept - math.prod(size)

        return max(self.sizes, key=worth)


@dataclass(frozen=True)
class PaddedRows:
    """As many tiles along the longer side as `tiles` allow, white above and below (Phi-3-V).

    The whole is made of these, its pixels without rounding.

    side: pixels of a tile's side.
    """

    side: int
    tiles: int

    def most(self, resize: Rule | None) -> int:
        """The most tiles, and the whole."""
        return self.tiles + 1

    def __call__(self, image, resample: int) -> Tiles:
        """The tiles of a picture; RequestError where nothing is left of its shorter side."""
        tall = image.width < image.height
        if tall:
            image = image.transpose(TRANSPOSE)
        aspect = image.width / image.height
        cols = max(n for n in range(1, self.tiles + 1) if n * math.ceil(n / aspect) <= self.tiles)
        width, height = cols * self.side, int(cols * self.side / aspect)
        if not height:
            raise RequestError(f"an image {aspect:.0f} times as long as wide is too long")
        pixels = np.asarray(image.resize((width, height), resample))
        white = -height % self.side
        pixels = np.pad(pixels, ((white // 2, -(-white // 2)), (0, 0), (0, 0)), constant_values=255)
        pixels = pixels.transpose(1, 0, 2) if tall else pixels
        rows, cols = (size // self.side for size in pixels.shape[:2])
        whole = _every(_every(pixels.astype(np.float32), rows).swapaxes(0, 1), cols).swapaxes(0, 1)
        return [*_squares(pixels, self.side), whole], rows, cols


def _every(pixels: np.ndarray, step: int) -> np.ndarray:
    """Rows between every `step` of `[height, width, 3]`, as torch's bicubic `interpolate` has them.

    Where the step is odd, that is a row; where it is even, a mean of four (Keys 1981, a = -0.75).
    """
    middle = np.arange(step // 2, len(pixels), step)
    if step % 2:
        return pixels[middle]
    weights = {-2: -3 / 32, -1: 19 / 32, 0: 19 / 32, 1: -3 / 32}
    near = [np.clip(middle + at, 0, len(pixels) - 1) for at in weights]
    parts = zip(near, weights.values(), strict=True)
    return np.sum([np.float32(weight) * pixels[rows] for rows, weight in parts], axis=0)


def _inside(image, height: int, width: int) -> tuple[int, int]:
    """The width and height of a picture that touches two sides of a size."""
    wide, high = width / image.width, height / image.height
    if wide < high:
        return width, min(math.ceil(image.height * wide), height)
    return min(math.ceil(image.width * high), width), height


def _squares(pixels: np.ndarray, side: int) -> list[np.ndarray]:
    """The whole squares of `[height, width, 3]`, row by row."""
    height, width = (size // side * side for size in pixels.shape[:2])
    return [
        pixels[top : top + side, left : left + side]
        for top in range(0, height, side)
        for left in range(0, width, side)
    ]


Tiling = WholeTiles | NearestAspect | BestSize | PaddedRows
