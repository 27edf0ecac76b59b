"""Pictures cut into tiles (see `tilings`), and what stands for them in a prompt."""

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

    def write(self, image: str, rows: int, cols: int) -> str:
        """The words of a picture."""
        if not rows:
            return self.alone.format(image=image)
        tiles = "".join(self._rows(image, rows, cols))
        return self.start + tiles + self.whole.format(image=image)

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
