"""To which size a picture is brought before it is cut into patches: one small rule a kind of model.

Each is `(height, width) -> (height, width)`, and rounds exactly as the models were trained.
"""

import math
from dataclasses import dataclass

from jaxpool.errors import RequestError

LIMIT = 178_956_970  # pixels, before and after: Pillow warns of a decompression bomb beyond them
MOST_ASPECT = 200  # of Qwen2-VL's `smart_resize`


@dataclass(frozen=True)
class Exact:
    """One size for all; the aspect ratio is lost."""

    height: int
    width: int

    def __call__(self, height: int, width: int) -> tuple[int, int]:
        """The size."""
        return self.height, self.width


@dataclass(frozen=True)
class ShortestEdge:
    """The shorter side has a given length, the other follows and is rounded down."""

    edge: int

    def __call__(self, height: int, width: int) -> tuple[int, int]:
        """The size."""
        short, long = min(height, width), int(self.edge * max(height, width) / min(height, width))
        return (self.edge, long) if height == short else (long, self.edge)


@dataclass(frozen=True)
class PatchBudget:
    """The largest size of at most `most` whole patches, found by bisection (SigLIP2 NaFlex)."""

    patch: int
    most: int

    def __call__(self, height: int, width: int) -> tuple[int, int]:
        """The size."""
        low, high = 1e-6, 100.0
        while high - low >= 1e-5:
            middle = (low + high) / 2
            rows, cols = self._grid(middle, height), self._grid(middle, width)
            low, high = (middle, high) if rows * cols <= self.most else (low, middle)
        return self._grid(low, height) * self.patch, self._grid(low, width) * self.patch

    def _grid(self, scale: float, side: int) -> int:
        return max(1, math.ceil(side * scale / self.patch))


@dataclass(frozen=True)
class AreaBudget:
    """The largest size of at most `tokens` squares of `side` x `side` whole patches (Gemma 4)."""

    patch: int
    side: int
    tokens: int

    @property
    def most(self) -> int:
        """The most patches."""
        return self.tokens * self.side**2

    def __call__(self, height: int, width: int) -> tuple[int, int]:
        """The size."""
        scale = math.sqrt(self.most * self.patch**2 / (height * width))
        square = self.side * self.patch
        rows, cols = (math.floor(scale * size / square) for size in (height, width))
        if rows == 0:
            rows, cols = 1, min(width // height, self.tokens)
        elif cols == 0:
            rows, cols = min(height // width, self.tokens), 1
        return rows * square, cols * square


@dataclass(frozen=True)
class PixelBudget:
    """Sides are multiples of `factor`, pixels between `least` and `most` (Qwen2-VL)."""

    factor: int
    least: int
    most: int

    def __call__(self, height: int, width: int) -> tuple[int, int]:
        """The size; RequestError for pictures longer than `MOST_ASPECT` times their width."""
        if max(height, width) / min(height, width) > MOST_ASPECT:
            raise RequestError(
                f"absolute aspect ratio must be smaller than {MOST_ASPECT}, "
                f"got {max(height, width) / min(height, width)}"
            )
        sides = [round(side / self.factor) for side in (height, width)]
        area = sides[0] * sides[1] * self.factor**2
        if area > self.most:
            shrink = math.sqrt(height * width / self.most)
            sides = [max(1, math.floor(s / shrink / self.factor)) for s in (height, width)]
        elif area < self.least:
            grow = math.sqrt(self.least / (height * width))
            sides = [math.ceil(side * grow / self.factor) for side in (height, width)]
        return sides[0] * self.factor, sides[1] * self.factor


@dataclass(frozen=True)
class LongestEdge:
    """The longer side has a given length; the shorter follows, and is even (Idefics3)."""

    edge: int
    most: int = 4096  # of either side, in the end

    def __call__(self, height: int, width: int) -> tuple[int, int]:
        """The size."""
        size = _scaled(height, width, self.edge, 2)
        return _scaled(*size, self.most) if max(size) > self.most else size


def _scaled(height: int, width: int, edge: int, multiple: int = 1) -> tuple[int, int]:
    """The longer side of a length, the shorter rounded down, then up to a multiple."""
    aspect = width / height
    short = int(edge / aspect) if width >= height else int(edge * aspect)
    short = max(1, -(-short // multiple) * multiple)
    return (short, edge) if width >= height else (edge, short)


Rule = Exact | LongestEdge | ShortestEdge | PatchBudget | PixelBudget | AreaBudget
