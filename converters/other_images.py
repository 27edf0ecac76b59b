"""transformers' image processors, for kinds whose rules are not written in `converters.images`."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from converters.report import CheckpointError
from jaxpool.images.processor import Processor

LONGEST = 4096  # pixels of a side that a processor may ask for
PROBES = ((64, 48), (301, 517))  # width and height


@dataclass(frozen=True)
class Other(Processor):
    """A processor of transformers whose pictures all get one size, which is `crop`.

    run: its PIL backend, which needs no torch.
    """

    run: Any = None

    def pixels(self, image) -> np.ndarray:
        """An RGB `PIL.Image` as the processor resizes it, uint8 `[height, width, 3]`."""
        return _pixels(self.run, image)


def other_processor(folder: Path, name: str, patch: int, asked: Mapping[str, Any]) -> Other:
    """The processor of a folder by its class's name; `patch` and `asked` as in `read_processor`.

    CheckpointError unless each picture becomes 8-bit pixels of one size, and these are scaled and
    normalized by the fields of that name, as two pictures show.
    """
    run = _open(folder, name, asked)
    try:
        sizes = {_probe(run, *size) for size in PROBES}
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        reason = str(error).partition("\n")[0]
        raise CheckpointError(f"preprocessor_config.json: {name} is not known: {reason}") from error
    if len(sizes) > 1:
        raise CheckpointError(
            f"preprocessor_config.json: {name} is not known: its pictures have several sizes"
        )
    scale, mean, std = _values(run)
    return Other(patch, None, sizes.pop(), scale=scale, mean=mean, std=std, run=run)


def _open(folder: Path, name: str, asked: Mapping[str, Any]) -> Any:
    try:
        from transformers import AutoImageProcessor

        run = AutoImageProcessor.from_pretrained(
            folder, backend="pil", trust_remote_code=False, **asked
        )
    except (ImportError, KeyError, TypeError, ValueError, AttributeError, OSError) as error:
        reason = next(filter(None, str(error).splitlines()), type(error).__name__)
        raise CheckpointError(
            f"preprocessor_config.json: {name} is not known, nor to transformers without torch: "
            f"{reason[:200]}"
        ) from error
    for field in ("size", "crop_size"):
        sides = dict(getattr(run, field, None) or {})
        if any(isinstance(side, int) and side > LONGEST for side in sides.values()):
            raise CheckpointError(
                f"preprocessor_config.json: {field} {sides}, wanted at most {LONGEST} pixels"
            )
    return run


def _pixels(run: Any, image) -> np.ndarray:
    """What a processor makes of a picture before it scales values."""
    found = run(image, do_rescale=False, do_normalize=False, return_tensors="np")["pixel_values"]
    if found.ndim != 4 or found.shape[:2] != (1, 3):
        raise ValueError(f"a picture becomes {list(found.shape)} values, wanted one of 3 channels")
    values = found[0].transpose(1, 2, 0)
    pixels = values.clip(0, 255).astype(np.uint8)
    if not np.array_equal(pixels, values):
        raise ValueError("its pixels are not of 8 bits")
    return pixels


def _probe(run: Any, width: int, height: int) -> tuple[int, int]:
    """Height and width of a picture of noise; ValueError where its values are made otherwise."""
    from PIL import Image

    noise = np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8)
    image = Image.fromarray(noise)
    pixels, whole = _pixels(run, image), run(image, return_tensors="np")["pixel_values"][0]
    scale, mean, std = _values(run)
    if not np.allclose((pixels * scale - mean) / std, whole.transpose(1, 2, 0), atol=1e-4):
        raise ValueError("its values are not pixels that are scaled and normalized")
    return pixels.shape[:2]


def _values(run: Any) -> tuple[float, tuple[float, ...], tuple[float, ...]]:
    """Scale, mean and deviation of a processor's channels."""
    scale = float(run.rescale_factor) if run.do_rescale else 1.0
    if not run.do_normalize:
        return scale, (0.0,) * 3, (1.0,) * 3
    each = (np.broadcast_to(np.asarray(x, float), 3) for x in (run.image_mean, run.image_std))
    mean, std = (tuple(map(float, x)) for x in each)
    return scale, mean, std
