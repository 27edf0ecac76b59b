"""The switches of positions in attention: `Rotary`, `Disentangled`."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Rotary:
    """One rotary table: the first `dim` features of each head rotate, with base `theta`.

    `scaling` names the rule that scales the frequencies ("none", "linear", "ntk", "dynamic",
    "yarn", "llama3", "longrope"); the other fields are its parameters, zero where a rule does not
    use them. `interleaved` pairs neighbouring features instead of halves. `dim` 0: no rotation;
    otherwise the tables of one architecture agree on it. `growth`: queries that turn as a whole
    grow with the logarithm of how often their position holds `original_length` (Llama 4's card).
    axes: which coordinate of a token each pair of features turns by, where tokens have several
    (rows and columns of an image); repeats: frequencies are those of `dim / repeats` features.
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
