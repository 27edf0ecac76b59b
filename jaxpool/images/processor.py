"""`Processor`: from a picture as it comes to the patches that one model was trained on."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from jaxpool.errors import RequestError
from jaxpool.images.patches import Picture, cut
from jaxpool.images.resize import LIMIT, AreaBudget, Exact, PatchBudget, PixelBudget, Rule
from jaxpool.images.tiles import Tiled
from jaxpool.images.tilings import Tiling

BICUBIC = 3  # Pillow's number


@dataclass(frozen=True)
class Processor:
    """What the files of a checkpoint say about its pictures.

    patch: pixels of a patch's side; resize: the rule of the size, None to keep it; crop: height and
    width of the middle that is taken, None for all; even: a middle between two pixels starts at the
    even one, else at the first; resample: Pillow's number of the filter; merge: patches of a side
    that become one token; tiles: how pictures are cut after that, None for not at all; scale, mean,
    std: a value x of a channel goes into the model as (x * scale - mean) / std, which the device
    computes.
    """

    patch: int
    resize: Rule | None = None
    crop: tuple[int, int] | None = None
    even: bool = False
    resample: int = BICUBIC
    merge: int = 1
    tiles: Tiling | None = None
    scale: float = 1 / 255
    mean: tuple[float, ...] = (0.0, 0.0, 0.0)
    std: tuple[float, ...] = (1.0, 1.0, 1.0)

    @property
    def one_size(self) -> tuple[int, int] | None:
        """Height and width where all pictures, or tiles, get the same."""
        if self.tiles:
            return self.tiles.side, self.tiles.side
        return self.crop or (self.resize(1, 1) if isinstance(self.resize, Exact) else None)

    @property
    def most(self) -> int:
        """The most patches of a picture."""
        if isinstance(self.resize, PatchBudget | AreaBudget):
            return self.resize.most
        if isinstance(self.resize, PixelBudget):
            return self.resize.most // self.patch**2
        if self.tiles:
            return self.each * self.tiles.most(self.resize)
        return self.each

    @property
    def longest(self) -> int:
        """The most patches of a picture's side, as long as it may be."""
        rule = self.resize
        return rule.tokens * rule.side if isinstance(rule, AreaBudget) else self.most

    @property
    def each(self) -> int:
        """The patches of a picture, or tile, where all have the same."""
        height, width = self.one_size or (0, 0)
        return (height // self.patch) * (width // self.patch)

    def __call__(self, source: Any) -> Picture | Tiled:
        """The patches of a picture (see `decode`); RequestError where it cannot be served."""
        try:
            from jaxpool.images.decode import decode
        except ImportError as error:
            raise ImportError("images need Pillow: pip install 'jaxpool[images]'") from error
        image = decode(source)
        if self.tiles is None:
            return cut(self.pixels(image), self.patch, self.merge)
        tiles, rows, cols = self.tiles(self._resized(image), self.resample)
        cuts = tuple(cut(tile, self.patch, self.merge) for tile in tiles)
        return Tiled(cuts, rows, cols, (image.height, image.width))

    def pixels(self, image) -> np.ndarray:
        """An RGB `PIL.Image` resized and cropped, uint8 `[height, width, 3]`."""
        pixels = np.asarray(self._resized(image))
        return _middle(pixels, *self.crop, self.even) if self.crop else pixels

    def _resized(self, image):
        if self.resize:
            height, width = self.resize(image.height, image.width)
            if height * width > LIMIT:
                raise RequestError(
                    f"an image of {image.width} x {image.height} pixels is too long for this "
                    f"model: it would be resized to {width} x {height}"
                )
            return image.resize((width, height), self.resample)
        return image


def _middle(pixels: np.ndarray, height: int, width: int, even: bool) -> np.ndarray:
    """The middle of a picture, with black around it where that is smaller."""
    more = [max(0, height - pixels.shape[0]), max(0, width - pixels.shape[1])]
    if any(more):
        around = [(-(-count // 2), count // 2) for count in more]
        pixels = np.pad(pixels, (*around, (0, 0)))
    over = pixels.shape[0] - height, pixels.shape[1] - width
    top, left = (round(count / 2) if even else count // 2 for count in over)
    return pixels[top : top + height, left : left + width]
