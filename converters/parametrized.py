"""Kernels and tables that torch keeps as parametrizations: a base, and LoRA's factors beside it."""

from typing import Any

import numpy as np

MIDDLE = ".parametrizations.weight."
BASE = f"{MIDDLE}original"


class Parametrized:
    """The tensors of `source` with one adapter added to those that have some; reads like it.

    adapter: its number, None for the base alone; scale: the factor on the product of its two
    factors.
    """

    def __init__(self, source: Any, adapter: int | None, scale: float):
        self._source, self._adapter, self._scale = source, adapter, scale
        stems = (name.removesuffix(BASE) for name in source.keys() if name.endswith(BASE))
        self._stems = {f"{stem}.weight": stem for stem in stems}

    def keys(self):
        """The names of all tensors."""
        plain = {name for name in self._source.keys() if MIDDLE not in name}
        return plain | self._stems.keys()

    def shape(self, name: str) -> tuple[int, ...]:
        """The shape of a tensor, without reading it."""
        return self._source.shape(self._base(name))

    def dtype(self, name: str) -> str:
        """The dtype of a tensor, as safetensors spells it."""
        return self._source.dtype(self._base(name))

    def describe(self) -> dict[str, dict]:
        """The facts of the tensors on disk."""
        return self._source.describe()

    def __getitem__(self, name: str) -> np.ndarray:
        """A tensor; sums are made in float32 and have the dtype of the base."""
        base = self._source[self._base(name)]
        if name not in self._stems or self._adapter is None:
            return base
        names = (f"{self._stems[name]}{MIDDLE}0.lora_{factor}" for factor in "AB")
        a, b = (self._source[factor][self._adapter].astype(np.float32) for factor in names)
        # A takes what comes in: rows of a table, and of a kernel its columns.
        update = a @ b if len(a) == len(base) else b @ a
        return (base.astype(np.float32) + self._scale * update).astype(base.dtype)

    def _base(self, name: str) -> str:
        stem = self._stems.get(name)
        return f"{stem}{BASE}" if stem is not None else name
