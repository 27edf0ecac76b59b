"""Pictures for tests: smooth colours with noise, the closest to a photograph that needs no file."""

import io

import numpy as np
from PIL import Image

SIZES = ((517, 333), (224, 224), (56, 40), (31, 97), (640, 480), (300, 3), (1000, 37))


def photo(width: int, height: int, seed: int = 0) -> Image.Image:
    """An RGB picture of a size."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:height, :width]
    waves = [127 + 90 * np.sin(x / (7 + 9 * c) + y / (11 + 5 * c) + seed) for c in range(3)]
    noisy = np.stack(waves, -1) + rng.normal(0, 20, (height, width, 3))
    return Image.fromarray(noisy.clip(0, 255).astype(np.uint8))


def photos() -> list[Image.Image]:
    """Pictures of all `SIZES`."""
    return [photo(*size, seed) for seed, size in enumerate(SIZES)]


def encoded(image: Image.Image, kind: str, **options) -> bytes:
    """The bytes of a file."""
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()
