"""Records of what happens between layers, for `Arch`."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Compression:
    """Before each of some layers, counted from 0, `ratio` neighbours in a document become one.

    Tokens of type 1 are a document's; the layers of the architecture are all of a kind.
    """

    layers: tuple[int, ...]
    ratio: int
