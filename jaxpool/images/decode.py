"""Whatever holds a picture to 8-bit RGB: files and their bytes, Pillow images, NumPy arrays.

Turned as EXIF says, transparency over white, the first frame of several. What cannot be decoded, or
would not fit in memory, is refused by its header.
"""

import io
import re
from pathlib import Path
from typing import Any

import numpy as np
from PIL import ExifTags, Image, ImageOps

from jaxpool.errors import RequestError
from jaxpool.images.resize import LIMIT

# No formats that run a program, or that describe drawings.
FORMATS = (
    *("AVIF", "BMP", "DDS", "DIB", "GIF", "ICO", "JPEG", "JPEG2000", "PCX", "PNG", "PPM"),
    *("SGI", "TGA", "TIFF", "WEBP", "XBM"),
)
Image.init()
OPENED = tuple(name for name in FORMATS if name in Image.OPEN)  # those that this Pillow knows
DEEP = ("I;16", "I;16L", "I;16B", "I;16N")
RANGELESS = ("I", "F")
BROKEN = (OSError, SyntaxError, ValueError, EOFError, Image.DecompressionBombError)


def decode(source: Any, limit: int = LIMIT) -> Image.Image:
    """The picture of a path, the bytes of a file, a Pillow image or an array, as 8-bit RGB.

    An array is uint8 `[height, width]` or `[height, width, 1, 3 or 4]`. An upright RGB image of
    Pillow is given back itself. RequestError where it is no picture, a damaged one, or one of more
    than `limit` pixels.
    """
    try:
        image = _open(source)
        check_size(image.size, limit)
        image.load()
    except RequestError:
        raise
    except (*BROKEN, Warning) as error:  # a warning of size, where warnings are errors
        reason = re.sub(r" at 0x[0-9a-f]+", "", str(error))
        raise RequestError(f"Failed to load image: {reason}") from error
    return _to_rgb(_upright(image))


def check_size(size: tuple[int, int], limit: int = LIMIT) -> None:
    """Refuse a picture of no pixels, or of more than `limit`."""
    width, height = size
    if not width or not height:
        raise RequestError(f"Failed to load image: it is empty ({width} x {height} pixels)")
    if width * height > limit:
        raise RequestError(
            f"Failed to load image: {width} x {height} pixels, of which {limit} are allowed"
        )


def _open(source: Any) -> Image.Image:
    match source:
        case Image.Image():
            return source
        case np.ndarray():
            return _of_array(source)
        case bytes():
            return Image.open(io.BytesIO(source), formats=OPENED)
        case str() | Path():
            return _open(Path(source).read_bytes())
    raise RequestError(
        "an image must be a PIL.Image, a uint8 array, a path or the bytes of a file, "
        f"got {type(source).__name__}"
    )


def _of_array(array: np.ndarray) -> Image.Image:
    if array.dtype != np.uint8 or (array.ndim != 2 and array.shape[2:] not in ((1,), (3,), (4,))):
        raise RequestError(
            "an image array must be uint8 [height, width] or [height, width, 1, 3 or 4], "
            f"got {array.dtype} {list(array.shape)}"
        )
    check_size(array.shape[1::-1])
    return Image.fromarray(array[..., 0] if array.shape[2:] == (1,) else array)


def _upright(image: Image.Image) -> Image.Image:
    try:  # a picture that stands as it is would be copied
        turned = image.getexif().get(ExifTags.Base.Orientation, 1) != 1
        return ImageOps.exif_transpose(image) if turned else image
    except Exception:  # damaged EXIF data says nothing; Pillow's parser raises all kinds
        return image


def _to_rgb(image: Image.Image) -> Image.Image:
    if image.mode in RANGELESS:
        raise RequestError(
            f"Failed to load image: values of mode {image.mode} have no known range, "
            "wanted 8 or 16 bits a channel"
        )
    if image.mode in DEEP:  # Pillow would cut off at 255
        deep = np.asarray(image).astype(np.uint32)
        image = Image.fromarray(((deep * 255 + 32767) // 65535).astype(np.uint8))
    if image.has_transparency_data:
        image = image.convert("RGBA")
        white = Image.new("RGBA", image.size, "white")
        return Image.alpha_composite(white, image).convert("RGB")
    try:
        return image if image.mode == "RGB" else image.convert("RGB")
    except ValueError as error:  # a mode without a way to RGB
        raise RequestError(f"Failed to load image: {error}") from error
