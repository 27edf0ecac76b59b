"""A parameter of a tree before there is an array for it."""

from typing import NamedTuple


class Leaf(NamedTuple):
    """A parameter that is not there yet: its axis string and its shape."""

    axes: str
    shape: tuple[int, ...]


def is_leaf(node) -> bool:
    """True for a `Leaf`; pass as `is_leaf` to the functions of `jax.tree`."""
    return isinstance(node, Leaf)
