"""Host buffers of leaves, and how tensors are copied into them."""

import math

import numpy as np


def aligned(shape: tuple[int, ...], dtype, boundary: int = 64) -> np.ndarray:
    """A zeroed array that starts at a multiple of `boundary` bytes: JAX on CPU adopts it."""
    size = math.prod(shape) * np.dtype(dtype).itemsize
    raw = np.zeros(size + boundary, np.uint8)
    start = -raw.ctypes.data % boundary
    return raw[start : start + size].view(dtype).reshape(shape)


def copy_lines(target: np.ndarray, part: np.ndarray, lines: int = 16) -> None:
    """target[...] = part, a few lines of the source at a time: transposing stays in the cache.

    Measured on 2 cores of CPU, [4096, 1024] float32: 1.8 GB/s instead of 0.5; the cast before the
    transpose triples bfloat16 -> float32.
    """
    if part.ndim < 2 or part.flags.c_contiguous:
        target[...] = part
        return
    axis = int(np.argmax(np.abs(part.strides)))
    target, part = np.moveaxis(target, axis, 0), np.moveaxis(part, axis, 0)
    for at in range(0, len(part), lines):
        target[at : at + lines] = part[at : at + lines].astype(target.dtype, copy=False)
