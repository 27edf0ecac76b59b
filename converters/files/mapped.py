"""A tensor in a file: where its bytes lie, and a read-only map of them."""

import hashlib
import math
import mmap
from pathlib import Path
from typing import NamedTuple

import ml_dtypes
import numpy as np
from safetensors import SafetensorError, safe_open

from converters.report import CheckpointError

DTYPES = {
    "F64": np.float64,
    "F32": np.float32,
    "F16": np.float16,
    "BF16": ml_dtypes.bfloat16,
    "F8_E4M3": ml_dtypes.float8_e4m3fn,
    "F8_E5M2": ml_dtypes.float8_e5m2,
    "I64": np.int64,
    "I32": np.int32,
    "I16": np.int16,
    "I8": np.int8,
    "U8": np.uint8,
    "BOOL": np.bool_,
}
SAMPLE = 4096  # bytes


class Mapped(NamedTuple):
    """A tensor at `offset` bytes of a file; `strides` count elements, None is contiguous.

    dtype: as safetensors spells it ("F32", "BF16", ...).
    """

    file: Path
    offset: int
    shape: tuple[int, ...]
    dtype: str
    strides: tuple[int, ...] | None = None

    def array(self) -> np.ndarray:
        """The tensor as a read-only array over the file; its pages go when the array does."""
        dtype = np.dtype(DTYPES[self.dtype])
        if 0 in self.shape:
            return np.empty(self.shape, dtype)
        if self.strides is None:
            flat = self._map(dtype, math.prod(self.shape))
            return flat.reshape(self.shape)
        last = sum((n - 1) * step for n, step in zip(self.shape, self.strides, strict=True))
        steps = tuple(step * dtype.itemsize for step in self.strides)
        flat = self._map(dtype, last + 1)
        return np.lib.stride_tricks.as_strided(flat, self.shape, steps, writeable=False)

    def sample(self) -> str:
        """A digest of some bytes from the middle of the tensor: one read, whatever its size."""
        size = math.prod(self.shape) * np.dtype(DTYPES[self.dtype]).itemsize
        with open(self.file, "rb") as file:
            file.seek(self.offset + max(0, size - SAMPLE) // 2)
            return hashlib.sha256(file.read(min(size, SAMPLE))).hexdigest()[:16]

    def _map(self, dtype: np.dtype, count: int) -> np.ndarray:
        """Elements of the file as an array; the system is told to start reading all of them."""
        start = self.offset - self.offset % mmap.ALLOCATIONGRANULARITY
        end = self.offset + count * dtype.itemsize
        with open(self.file, "rb") as file:
            pages = mmap.mmap(file.fileno(), end - start, access=mmap.ACCESS_READ, offset=start)
        if hasattr(pages, "madvise"):
            pages.madvise(mmap.MADV_WILLNEED)
        return np.frombuffer(pages, dtype, count, self.offset - start)


def safetensors_index(file: Path) -> dict[str, Mapped]:
    """The tensors of a safetensors file by name; the library checks the header."""
    try:
        with open(file, "rb") as raw, safe_open(file, framework="numpy") as handle:
            offset = 8 + int.from_bytes(raw.read(8), "little")
            found = {}
            # The format has no holes, so the order of the tensors gives their offsets.
            for name in handle.offset_keys():
                part = handle.get_slice(name)
                tensor = Mapped(file, offset, tuple(part.get_shape()), part.get_dtype())
                found[name] = tensor
                offset += math.prod(tensor.shape) * np.dtype(DTYPES[tensor.dtype]).itemsize
    except PermissionError as error:  # of a file that another user wrote, as in a container
        raise CheckpointError(f"{file} is not readable by this process's user") from error
    except (SafetensorError, OSError) as error:
        raise CheckpointError(
            f"{file.name} is truncated or not a safetensors file ({error})"
        ) from error
    except KeyError as error:
        raise CheckpointError(
            f"{file.name}: tensor {name} has dtype {error}; known: {', '.join(DTYPES)}"
        ) from error
    return found
