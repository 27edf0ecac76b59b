"""Layers of several sizes read as layers of one: what was cut away is zero, and adds nothing."""

import re
from collections.abc import Mapping, Set

import numpy as np

PART = re.compile(r"^(?:.*\.)?layers\.\d+\.(.*)\.weight$")


class Even:
    """The tensors of `source`, those of layers in `shapes`; reads like `files.Tensors`.

    shapes: by what follows a layer's number; absent: names that layers may lack, with zeros in
    their place; like: the tensor whose dtype these have; head_dim: features of a head of `repeated`
    tensors, fewer of which serve as many queries.
    """

    def __init__(
        self,
        source,
        shapes: Mapping[str, tuple[int, ...]],
        absent: Set[str],
        like: str,
        repeated: Set[str],
        head_dim: int,
    ):
        self._source, self._shapes, self._repeated = source, shapes, repeated
        self._absent, self._like = absent - source.keys(), like
        self._head_dim = head_dim

    def keys(self):
        """The names of all tensors, those that layers lack among them."""
        return self._source.keys() | self._absent

    def shape(self, name: str) -> tuple[int, ...]:
        """The shape of a tensor, without reading it."""
        return self._shapes.get(_part(name)) or self._source.shape(name)

    def dtype(self, name: str) -> str:
        """The dtype of a tensor, as safetensors spells it."""
        return self._source.dtype(self._like if name in self._absent else name)

    def describe(self) -> dict[str, dict]:
        """The facts of the tensors on disk."""
        return self._source.describe()

    def __getitem__(self, name: str) -> np.ndarray:
        """A tensor: heads repeated, all else ending in zeros."""
        shape = self.shape(name)
        if name in self._absent:
            return np.zeros(shape, self._source[self._like].dtype)
        found = self._source[name]
        if found.shape == shape:
            return found
        if _part(name) in self._repeated:
            heads = found.reshape(-1, self._head_dim, *found.shape[1:])
            return np.repeat(heads, shape[0] // found.shape[0], axis=0).reshape(shape)
        return np.pad(found, [(0, to - size) for to, size in zip(shape, found.shape, strict=True)])


def _part(name: str) -> str:
    """What follows the number of a layer in a tensor's name; nothing for other tensors."""
    match = PART.match(name)
    return match[1] if match else ""
