"""The records that `Arch` is made of: rotary tables, and the parts that few architectures have.

A mixer's record has the axes of its parameters and the sizes of its own letters (see `params`).
"""

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class Rotary:
    """One rotary table: the first `dim` features of each head rotate, with base `theta`.

    `scaling` names the rule that scales the frequencies ("none", "linear", "ntk", "dynamic",
    "yarn", "llama3", "longrope"); the other fields are its parameters, zero where a rule does not
    use them. `interleaved` pairs neighbouring features instead of halves. `dim` 0: no rotation;
    otherwise the tables of one architecture agree on it. `growth`: queries that turn as a whole
    grow with the logarithm of how often their position holds `original_length` (Llama 4's card).
    axes: which coordinate of a token each pair of features turns by, where tokens have several
    (rows and columns of an image); repeats: frequencies are those of `dim / repeats` features;
    blocks: pairs are of the halves of each of so many blocks of features.
    """

    theta: float
    dim: int
    interleaved: bool = False
    scaling: str = "none"
    factor: float = 1.0
    original_length: int = 0
    beta_fast: float = 32.0
    beta_slow: float = 1.0
    low_freq: float = 1.0
    high_freq: float = 4.0
    attention_factor: float = 1.0
    growth: float = 0.0
    truncate: bool = True
    short: tuple[float, ...] = ()
    long: tuple[float, ...] = ()
    axes: tuple[int, ...] = ()
    repeats: int = 1
    blocks: int = 1


@dataclass(frozen=True)
class Disentangled:
    """Attention scores from contents and from relative positions, added (arXiv 2006.03654).

    span: half the rows of the table of relative positions, 0 without one; max_distance: where
    logarithmic buckets end, 0 for one row a distance; shared: positions use the projections of
    contents; normed: the table has a norm; taps: width of a convolution beside the first
    layer, 0 without one.
    """

    span: int
    max_distance: int = 0
    content_to_position: bool = True
    position_to_content: bool = True
    shared: bool = False
    normed: bool = False
    key_bias: bool = True
    taps: int = 0
    conv_groups: int = 1
    conv_activation: str = "tanh"


@dataclass(frozen=True)
class Mixture:
    """What few mixtures of experts have.

    bias: of the router and of every product; limit: where a gate ends and what it gates, which
    grows by one (gpt-oss), 0 for nowhere; sigmoid: experts are scored one by one, else against one
    another; corrected: scores choose experts after a bias (arXiv 2412.19437); these are of the
    `best_groups` of so many `groups`, by the sum of the `leaders` best of each; scale: the factor
    on all weights; shared: features of an MLP beside the experts, for all tokens; shared_gate:
    whether it is multiplied by the sigmoid of a gate.
    """

    bias: bool = False
    limit: float = 0.0
    sigmoid: bool = False
    corrected: bool = False
    groups: int = 1
    best_groups: int = 1
    leaders: int = 2
    scale: float = 1.0
    shared: int = 0
    shared_gate: bool = False


@dataclass(frozen=True)
class Patches:
    """What a vision tower reads in place of tokens: squares of 8-bit RGB pixels.

    side: pixels of a square's side; class_token: a learned vector comes before the patches of each
    picture, and so many registers, without positions; stretched: the table of positions is a square
    (after the class token's) that is stretched over each picture's grid, corner onto corner where
    `corners`, by cubic pieces where `cubic` (sharp: no antialiasing); crossed: two tables, one of
    columns and one of rows, whose vectors are added; otherwise its rows are counted; frames:
    kernels for so many frames of a video, of which a picture fills all; dtype: of pixels; scale,
    mean, std: a value x of a channel is read as (x * scale - mean) / std.
    """

    side: int
    bias: bool = True
    class_token: bool = False
    registers: int = 0
    stretched: bool = False
    corners: bool = False
    crossed: bool = False
    cubic: Literal["", "smooth", "sharp"] = ""
    frames: int = 1
    dtype: Literal["uint8", "float32"] = "uint8"
    scale: float = 1 / 255
    mean: tuple[float, ...] = (0.0, 0.0, 0.0)
    std: tuple[float, ...] = (1.0, 1.0, 1.0)

    @property
    def placed(self) -> bool:
        """Whether positions are rows and columns, so that pictures may have any shape."""
        return self.stretched or self.crossed

    @property
    def values(self) -> int:
        """Numbers of one square."""
        return 3 * self.side**2


@dataclass(frozen=True)
class Merger:
    """How a tower's patches become vectors that stand among those of a text's tokens.

    width: features of a text's tokens; side: side x side neighbouring patches become one vector;
    hidden: features between two linear layers, 0 for one layer alone; norm: of each patch, of those
    joined, of these without a scale ("plain"), or none; norm_eps: its epsilon, 0 for the tower's;
    deep: layers of the tower whose outputs are merged as well, and added to the vectors of the text
    after its first layers, one each (arXiv 2406.04334); averaged: patches become their mean, times
    the root of its features, where others stand side by side; marks: names of learned vectors that
    stand among those of an image, merged_marks: whether they go through the linear layers, too.
    """

    width: int
    side: int = 1
    hidden: int = 0
    norm: Literal["none", "patch", "joined", "plain"] = "none"
    norm_eps: float = 0.0
    activation: str = "gelu"
    bias: bool = True
    deep: tuple[int, ...] = ()
    averaged: bool = False
    marks: tuple[str, ...] = ()
    merged_marks: bool = False

    @property
    def patches(self) -> int:
        """The patches that become one vector."""
        return self.side**2

    @property
    def joined(self) -> int:
        """The patches whose features stand side by side in a vector, before its layers."""
        return 1 if self.averaged else self.patches


@dataclass(frozen=True)
class ShortConvolution:
    """A gated convolution over the `taps` tokens around each (LFM2, arXiv 2511.23404).

    In a causal architecture they end with the token, elsewhere it is their middle.
    """

    width: int
    taps: int
    bias: bool = False

    def axes(self) -> dict:
        """The parameters and their axes."""
        into = {name: _dense("D p", self.bias) for name in ("before", "after", "value")}
        return into | {"conv": _dense("A p", self.bias), "down": _dense("p D", self.bias)}

    def sizes(self) -> dict[str, int]:
        """The sizes of its letters."""
        return {"p": self.width, "A": self.taps}


@dataclass(frozen=True)
class DeltaNet:
    """A memory of keys and values for each head, read and corrected token by token.

    Gated DeltaNet (arXiv 2412.06464); taps: of the short convolutions before it. Each key head
    serves `value_heads / key_heads` value heads.
    """

    key_heads: int
    value_heads: int
    key_dim: int
    value_dim: int
    taps: int

    def axes(self) -> dict:
        """The parameters and their axes."""
        features = {"query": "n k", "key": "n k", "value": "x y"}
        return {
            **{name: {"kernel": f"D {axes}"} for name, axes in features.items()},
            "conv": {name: {"kernel": f"A {axes}"} for name, axes in features.items()},
            "gate": {"kernel": "D x y"},
            "write": {"kernel": "D x"},
            "decay": {"kernel": "D x"},
            "rate": {"scale": "x", "bias": "x"},
            "norm": {"scale": "y"},
            "out": {"kernel": "x y D"},
        }

    def sizes(self) -> dict[str, int]:
        """The sizes of its letters."""
        heads = {"n": self.key_heads, "x": self.value_heads}
        return heads | {"k": self.key_dim, "y": self.value_dim, "A": self.taps}


@dataclass(frozen=True)
class Fourier:
    """The real part of the Fourier transform of a text, its tokens and features (FNet)."""

    def axes(self) -> dict:
        """No parameters."""
        return {}

    def sizes(self) -> dict[str, int]:
        """No letters."""
        return {}


@dataclass(frozen=True)
class Relative:
    """Attention to contents, to sinusoids of distances and to parts of a text (XLNet)."""

    def axes(self) -> dict:
        """The parameters and their axes: three biases of queries, a vector for each kind of part.

        `parts` are of tokens with the same type, and of others.
        """
        names = ("query", "key", "value", "distance")
        biases = {f"{name}_query": {"bias": "N H"} for name in ("content", "distance", "part")}
        return {
            **{name: {"kernel": "D N H"} for name in names},
            **biases,
            "parts": {"embedding": "A N H"},
            "out": {"kernel": "N H D"},
        }

    def sizes(self) -> dict[str, int]:
        """The sizes of its letters."""
        return {"A": 2}


@dataclass(frozen=True)
class Narrow:
    """Layers of `width` features between a kernel into them and one out (arXiv 2004.02984).

    Each has several MLPs in a row, `mlps` before the last; the embedding of a token holds those of
    its two neighbours.
    """

    width: int
    mlps: int

    def axes(self, norm: dict) -> dict:
        """The parameters of a layer and their axes; `norm`: those of a norm of D features."""
        thin = dict.fromkeys(norm, "d")
        mlp = {"up": _dense("d F", True), "down": _dense("F d", True), "norm": thin}
        return {
            "narrowed": _dense("D d", True) | {"norm": thin},
            "shared": _dense("D d", True) | {"norm": thin},
            "query": {"kernel": "d N H", "bias": "N H"},
            "key": {"kernel": "d K H", "bias": "K H"},
            "value": {"kernel": "D K H", "bias": "K H"},
            "out": _dense("N H d", True) | {"norm": thin},
            "mlps": {
                "up": {"kernel": "e d F", "bias": "e F"},
                "down": {"kernel": "e F d", "bias": "e d"},
                "norm": dict.fromkeys(norm, "e d"),
            },
            "mlp": mlp,
            "widened": _dense("d D", True) | {"norm": norm},
        }

    def sizes(self) -> dict[str, int]:
        """The sizes of its letters."""
        return {"d": self.width, "e": self.mlps, "A": 3}


def _dense(axes: str, bias: bool) -> dict[str, str]:
    return {"kernel": axes} | ({"bias": axes.split()[-1]} if bias else {})
