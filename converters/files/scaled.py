"""Quantized weights beside their scales, read as the numbers they stand for.

FP8 checkpoints have `weight_scale_inv` (a number for each block, or one), compressed-tensors
`weight_scale` (a number for each row, for each group of a row, or one). Both multiply the weight.
"""

import re
from collections.abc import Mapping
from typing import Any

import ml_dtypes
import numpy as np

from converters.files.tensors import Manifest, Tensors
from converters.report import CheckpointError

WEIGHT = re.compile(r"(^|[._])(weight|qweight|weight_packed)$")
NARROW = ("F8_E4M3", "F8_E5M2", "I8", "U8", "I16", "I32")
READ = ("I8", "F8_E4M3", "F8_E5M2")  # those that one scale makes numbers of
SCALES = ("_scale_inv", "_scale")
BESIDE = re.compile(r"(weight_scale(_inv)?|weight_zero_point|(in|out)put_(scale|zero_point))$")


def with_scales(source: Tensors | Manifest, quantization: Mapping[str, Any] | None) -> Any:
    """`source` with its quantized weights as numbers; itself where it has none.

    quantization: `quantization_config` of config.json, which a refusal names. Integers and float8
    without their scales, or packed in other ways (GPTQ, AWQ, bitsandbytes), are no numbers.
    """
    narrow = [n for n in sorted(source.keys()) if WEIGHT.search(n) and source.dtype(n) in NARROW]
    if not narrow:
        return source
    scales = {n: scale for n in narrow for end in SCALES if (scale := n + end) in source.keys()}
    lost = [n for n in narrow if n not in scales or source.dtype(n) not in READ]
    lost += [n for n in narrow if _offset(source, n)]
    if lost:
        method = (quantization or {}).get("quant_method", "no quantization_config")
        raise CheckpointError(
            f"tensor {lost[0]} of dtype {source.dtype(lost[0])} is quantized (config.json: "
            f"{method}); wanted floats, or int8 and float8 with weight_scale or weight_scale_inv"
        )
    return Scaled(source, scales, (quantization or {}).get("weight_block_size"))


def _offset(source: Tensors | Manifest, name: str) -> bool:
    """Whether a weight has a zero point other than zero; it had none if it is in an Orbax tree."""
    point = f"{name}_zero_point"
    return isinstance(source, Tensors) and point in source.keys() and bool(np.any(source[point]))


class Scaled:
    """The tensors of `source` less the scales, which are multiplied in; reads like `Tensors`."""

    def __init__(self, source, scales: dict[str, str], blocks: list[int] | None):
        self._source, self._scales, self._blocks = source, scales, blocks

    def keys(self):
        """The names of the weights."""
        return {name for name in self._source.keys() if not BESIDE.search(name)}

    def shape(self, name: str) -> tuple[int, ...]:
        """The shape of a tensor, without reading it."""
        return self._source.shape(name)

    def dtype(self, name: str) -> str:
        """The dtype of a tensor as it is read, as safetensors spells it."""
        return "BF16" if name in self._scales else self._source.dtype(name)

    def describe(self) -> dict[str, dict]:
        """The facts of the tensors on disk, scales among them."""
        return self._source.describe()

    def __getitem__(self, name: str) -> np.ndarray:
        """A tensor; products with scales are made in float32."""
        if name not in self._scales:
            return self._source[name]
        whole = self._source[name].astype(np.float32)
        scale = self._source[self._scales[name]].astype(np.float32)
        return (whole * self._spread(scale, whole.shape, name)).astype(ml_dtypes.bfloat16)

    def _spread(self, scale: np.ndarray, shape: tuple[int, ...], name: str) -> np.ndarray:
        """The scale of each element."""
        if scale.ndim < len(shape):
            scale = scale.reshape(scale.shape + (1,) * (len(shape) - scale.ndim))
        for axis, size in enumerate(shape):
            count = scale.shape[axis]
            if count in (1, size):
                continue
            each = self._blocks[axis] if self._blocks else size // count
            if -(-size // each) != count:
                raise CheckpointError(f"{name}: {shape} does not fit scales of {scale.shape}")
            scale = np.repeat(scale, each, axis).take(range(size), axis)
        return scale
