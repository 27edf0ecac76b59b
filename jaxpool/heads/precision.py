"""Vectors in fewer bits, by the names of sentence-transformers: int8, uint8, binary, ubinary.

`pack` runs inside the compiled program, so that only the small vectors are fetched, and on the host
for vectors that are computed there. It takes JAX and NumPy arrays.
"""

from dataclasses import dataclass

import jax.numpy as jnp
import numpy as np

PRECISIONS = ("float32", "int8", "uint8", "binary", "ubinary")
SHIFTED = {"uint8": "int8", "binary": "ubinary"}  # by 128, on the host: it spares two programs
SCALE = 127
NOT_FINITE = "the result is not finite: the weights are not, or overflow in this dtype"


def quantize(x, precision: str):
    """Vectors `[..., F]` of float32 in another precision, by a rule that needs no calibration.

    int8: round(127 x) of vectors of length 1, whose features lie in [-1, 1]; uint8: 128 more.
    ubinary: a bit each, 1 above 0, eight a byte `[..., ceil(F / 8)]`, the first the highest, and
    filled up with 0; binary: 128 less, as int8.
    """
    xp = x.__array_namespace__()
    if precision.endswith("int8"):
        vectors = xp.clip(xp.round(x * SCALE), -SCALE, SCALE).astype(xp.int8)
    else:
        vectors = xp.packbits(x > 0, axis=-1)
    return _shifted(vectors, precision) if precision in SHIFTED else vectors


def pack(x, precision: str):
    """What leaves the device: int8 or ubinary vectors, each with one more byte, 1 if it was finite.

    Bytes cannot say that a vector is not a number. Vectors of float32 stay as they are.
    """
    if precision == "float32":
        return x
    xp = x.__array_namespace__()
    vectors = quantize(x, SHIFTED.get(precision, precision))
    finite = xp.isfinite(x).all(axis=-1, keepdims=True)
    return xp.concatenate([vectors, finite.astype(vectors.dtype)], axis=-1)


def unpack(packed: np.ndarray, precision: str, dimensions: int) -> np.ndarray:
    """The first `dimensions` features, or as many bits, of what `pack` made.

    ArithmeticError where a vector was not finite.
    """
    if precision == "float32":
        return packed[..., :dimensions]
    if not packed[..., -1].all():
        raise ArithmeticError(NOT_FINITE)
    size = -(-dimensions // 8) if precision.endswith("binary") else dimensions
    vectors = packed[..., : min(size, packed.shape[-1] - 1)]
    return _shifted(vectors, precision) if precision in SHIFTED else vectors


def finite(x: np.ndarray) -> np.ndarray:
    """The same array, which has to be of numbers only; ArithmeticError where it is not."""
    if not np.isfinite(x).all():
        raise ArithmeticError(NOT_FINITE)
    return x


def _shifted(x, precision: str):
    """int8 as uint8, 128 more; ubinary as binary, 128 less."""
    xp = x.__array_namespace__()
    return (x.view(xp.uint8) ^ 128).view(xp.uint8 if precision == "uint8" else xp.int8)


@dataclass(frozen=True)
class Squash:
    """Features in steps of 1 / 127 of their tanh: int8 loses nothing of them (pplx-embed)."""

    def __call__(self, params, x, context):
        """`[..., F] -> [..., F]`."""
        return jnp.round(jnp.tanh(x) * SCALE) / SCALE


@dataclass(frozen=True)
class Quantize:
    """Vectors in fewer bits at the end of a chain of heads (see `jaxpool.heads.steps`)."""

    precision: str

    def __call__(self, params, x, context):
        """`[..., F]` float32 to bytes, `[..., F + 1]` or `[..., ceil(F / 8) + 1]`."""
        return pack(x, self.precision)
