"""A tensor that is not stored but computed from stored ones when it is read."""

from collections.abc import Callable, Set

import numpy as np


class Derived:
    """The tensors of `source` and one more, `name`; reads like `files.Tensors`.

    like: the tensor whose dtype it has; compute: what gives it; hidden: names that it stands for.
    """

    def __init__(
        self,
        source,
        name: str,
        shape: tuple[int, ...],
        like: str,
        compute: Callable[[], np.ndarray],
        hidden: Set[str] = frozenset(),
    ):
        self._source, self._name, self._shape, self._like = source, name, shape, like
        self._compute, self._hidden = compute, hidden

    def keys(self):
        """The names of all tensors."""
        return (self._source.keys() - self._hidden) | {self._name}

    def shape(self, name: str) -> tuple[int, ...]:
        """The shape of a tensor, without reading it."""
        return self._shape if name == self._name else self._source.shape(name)

    def dtype(self, name: str) -> str:
        """The dtype of a tensor, as safetensors spells it."""
        return self._source.dtype(self._like if name == self._name else name)

    def describe(self) -> dict[str, dict]:
        """The facts of the tensors on disk."""
        return self._source.describe()

    def __getitem__(self, name: str) -> np.ndarray:
        """A tensor."""
        return self._compute() if name == self._name else self._source[name]
