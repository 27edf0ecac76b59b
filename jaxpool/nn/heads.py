"""Heads that are not as the others: of another size, or such as convolve."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Heads:
    """Heads of another size, in the layers of these numbers."""

    layers: tuple[int, ...]
    kv_heads: int
    head_dim: int


@dataclass(frozen=True)
class Spans:
    """Heads whose weights on the `taps` tokens around each are made of it (arXiv 2008.02496).

    They are as many as those that attend, `heads`, and share their queries.
    """

    heads: int
    taps: int

    def axes(self) -> dict:
        """The parameters and their axes."""
        return {
            "conv": {"kernel": "A D"},
            "key": {"kernel": "D N H", "bias": "N H"},
            "weights": {"kernel": "N H z A", "bias": "z A"},
            "value": {"kernel": "D N H", "bias": "N H"},
            "out": {"kernel": "N H D"},
        }

    def sizes(self) -> dict[str, int]:
        """The sizes of its letters."""
        return {"z": self.heads, "A": self.taps}
