"""The records of parts whose products pass through few features (see `records`)."""

from dataclasses import dataclass


@dataclass(frozen=True)
class LatentHeads:
    """Queries, keys and values made of a few features of a token (MLA, arXiv 2405.04434).

    rank: of what keys and values are made; query_rank: 0 where queries are made of the token; of a
    head's features `turned` follow the position, and are one key for all heads; value_dim:
    features of a value.
    """

    rank: int
    query_rank: int
    turned: int
    value_dim: int
    bias: bool = False
    norm_eps: float = 1e-6

    def axes(self, out_bias: bool) -> dict:
        """The parameters and their axes."""
        asking = "g" if self.query_rank else "D"
        tree = {
            "low": _dense("D i", self.bias),
            "low_norm": {"scale": "i"},
            "query": {"kernel": f"{asking} N z"},
            "query_turned": {"kernel": f"{asking} N o"},
            "key": {"kernel": "i N z"},
            "key_turned": _dense("D o", self.bias),
            "value": {"kernel": "i N y"},
            "out": _dense("N y D", out_bias),
        }
        if self.query_rank:
            tree |= {"query_low": _dense("D g", self.bias), "query_low_norm": {"scale": "g"}}
        return tree

    def sizes(self, head_dim: int) -> dict[str, int]:
        """The sizes of its letters."""
        still = {"o": self.turned, "z": head_dim - self.turned}
        return still | {"i": self.rank, "g": self.query_rank, "y": self.value_dim}


@dataclass(frozen=True)
class Mamba:
    """A state of so many numbers for each of `width` features (arXiv 2312.00752, 2403.19887).

    rank: of the product that gives the step of each token; taps: of the convolution before it.
    """

    width: int
    states: int
    rank: int
    taps: int
    bias: bool = False
    conv_bias: bool = True

    def axes(self) -> dict:
        """The parameters and their axes."""
        selected = {"time": "g", "write": "i", "read": "i"}
        return {
            **{name: _dense("D p", self.bias) for name in ("value", "gate")},
            "conv": _dense("A p", self.conv_bias),
            **{name: {"kernel": f"p {axis}"} for name, axis in selected.items()},
            **{f"{name}_norm": {"scale": axis} for name, axis in selected.items()},
            "step": _dense("g p", True),
            "rate": {"scale": "p i"},
            "skip": {"scale": "p"},
            "down": _dense("p D", self.bias),
        }

    def sizes(self) -> dict[str, int]:
        """The sizes of its letters."""
        return {"p": self.width, "i": self.states, "g": self.rank, "A": self.taps}


def _dense(axes: str, bias: bool) -> dict[str, str]:
    return {"kernel": axes} | ({"bias": axes.split()[-1]} if bias else {})
