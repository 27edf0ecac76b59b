"""`Arch`: everything the forward needs to know about an architecture, as orthogonal switches."""

from dataclasses import dataclass, fields, replace
from typing import Any, Literal

Norm = Literal["layer", "rms"]
Placement = Literal["pre", "post", "sandwich", "branch"]
QKNorm = Literal["none", "head", "full", "layer"]


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


@dataclass(frozen=True)
class Patches:
    """What a vision tower reads in place of tokens: squares of 8-bit RGB pixels.

    side: pixels of a square's side; class_token: a learned vector comes before the patches of each
    picture, and so many registers, without positions; stretched: the table of positions is a square
    (after the class token's) that is stretched over each picture's grid, corner onto corner where
    `corners`, by cubic pieces where `cubic` (sharp: no antialiasing); otherwise its rows are
    counted; frames: kernels for so many frames of a video, of which a picture fills all; scale,
    mean, std: a value x of a channel is read as (x * scale - mean) / std.
    """

    side: int
    bias: bool = True
    class_token: bool = False
    registers: int = 0
    stretched: bool = False
    corners: bool = False
    cubic: Literal["", "smooth", "sharp"] = ""
    frames: int = 1
    scale: float = 1 / 255
    mean: tuple[float, ...] = (0.0, 0.0, 0.0)
    std: tuple[float, ...] = (1.0, 1.0, 1.0)

    @property
    def values(self) -> int:
        """Numbers of one square."""
        return 3 * self.side**2


@dataclass(frozen=True)
class Merger:
    """How a tower's patches become vectors that stand among those of a text's tokens.

    width: features of a text's tokens; side: side x side neighbouring patches become one vector;
    hidden: features between two linear layers, 0 for one layer alone; norm: of each patch, of
    those joined, or none; deep: layers of the tower whose outputs are merged as well, and added to
    the vectors of the text after its first layers, one each (arXiv 2406.04334).
    """

    width: int
    side: int = 1
    hidden: int = 0
    norm: Literal["none", "patch", "joined"] = "none"
    activation: str = "gelu"
    bias: bool = True
    deep: tuple[int, ...] = ()

    @property
    def patches(self) -> int:
        """The patches that become one vector."""
        return self.side**2


@dataclass(frozen=True)
class Arch:
    """An architecture as data: hashable, so it is a static argument of every jitted function.

    `windows` has each layer's reach (a token sees keys with |i - j| <= reach, a patch its square of
    that side, 0 is unlimited); `rotary_layers` the index in `rotary` of each layer's table.
    """

    vocab: int
    layers: int
    dim: int
    heads: int
    kv_heads: int
    head_dim: int
    mlp_dim: int

    # Embeddings
    embed_dim: int = 0  # 0: dim; otherwise factorized, and projected to dim
    token_types: int = 0
    task_types: int = 0  # rows of a table whose first is added to every token
    positions: int = 0  # rows of the learned position table, 0: none
    position_offset: int = 0  # row of the first token
    uncounted: int = -1  # the token whose row is the one before, and which no position counts
    embed_scale: float = 1.0
    dropped: int = -1  # the token without an embedding; the others of its text grow in its place
    embed_norm: bool = False

    # Norms
    norm: Norm = "layer"
    norm_eps: float = 1e-12
    norm_bias: bool = True
    norm_offset: float = 0.0  # added to the stored scale (Gemma stores scale - 1)
    placement: Placement = "post"
    inner_attention_norm: bool = False  # attention is norm(x + attention(x)) before its placement
    first_attention_norm: bool = True
    final_norm: bool = False
    residual_scale: float = 1.0  # the factor on the output of a residual branch
    layer_scale: bool = False  # a learned factor for each feature of it (arXiv 2103.17239)

    # Attention
    causal: bool = False
    windows: tuple[int, ...] = ()
    rotary: tuple[Rotary, ...] = ()
    rotary_layers: tuple[int, ...] = ()
    alibi: bool = False
    relative_buckets: int = 0
    relative_distance: int = 128
    relative_layers: bool = False  # each layer has a table of relative positions of its own
    disentangled: Disentangled | None = None
    qk_norm: QKNorm = "none"
    attention_scale: float = 0.0  # 0: head_dim ** -0.5
    attention_softcap: float = 0.0
    qkv_bias: bool = True
    out_bias: bool = True

    # MLP
    gated: bool = False
    activation: str = "gelu"
    mlp_bias: bool = True
    down_bias: bool | None = None  # None: like mlp_bias
    bottleneck: int = 0  # features of a second, narrow MLP after the first; it has no gate

    # Mixture of experts, in place of the MLP of some layers
    experts: int = 0
    experts_per_token: int = 0
    expert_dim: int = 0
    expert_layers: tuple[bool, ...] = ()  # which layers have experts; empty: all or none
    norm_experts: bool = False  # the weights of a token's experts sum to one

    # Low-rank adapters of every table and kernel, one of which a request may choose
    adapters: int = 0
    adapter_rank: int = 0
    adapter_scale: float = 1.0

    patches: Patches | None = None  # what a vision tower reads; it has no vocabulary
    merger: Merger | None = None  # what makes a tower's patches tokens of a text
    vision: "Arch | None" = None  # the tower beside a text model
    decoder: "Arch | None" = None  # reads the tokens again, one behind, and this one's output
    start: int | None = None  # a decoder's first token, -1 for the text's last; None of an encoder
    shared_layers: bool = False  # one set of weights runs `layers` times
    max_length: int = 512  # the most tokens that positions allow
    dtype: str = "float32"  # of activations between operations
    kernel: str = "xla"  # family of attention kernels (see `attention.choose`)

    def __post_init__(self):
        words = () if self.patches else ("vocab",)
        for field in (*words, "dim", "heads", "kv_heads", "head_dim", "mlp_dim"):
            if getattr(self, field) < 1:
                raise ValueError(f"Arch.{field} must be at least 1, got {getattr(self, field)}")
        if self.heads % self.kv_heads:
            raise ValueError(
                f"Arch.heads ({self.heads}) must be a multiple of Arch.kv_heads ({self.kv_heads})"
            )
        if self.experts and not 1 <= self.experts_per_token <= self.experts:
            raise ValueError(
                f"Arch.experts_per_token must lie in 1..{self.experts} (Arch.experts), "
                f"got {self.experts_per_token}"
            )
        for field in ("windows", "rotary_layers", "expert_layers"):
            value = getattr(self, field)
            if value and len(value) != self.layers:
                raise ValueError(
                    f"Arch.{field} must have one entry a layer ({self.layers}), got {len(value)}"
                )

    @property
    def scale(self) -> float:
        """The factor on attention scores."""
        return self.attention_scale or self.head_dim**-0.5

    @property
    def joins(self) -> bool:
        """Whether images stand among the tokens of a text, rather than by themselves."""
        return self.vision is not None and self.vision.merger is not None

    @property
    def axes(self) -> int:
        """The coordinates of a token that its features turn by."""
        return max((axis + 1 for table in self.rotary for axis in table.axes), default=1)

    @property
    def before_patches(self) -> int:
        """The tokens that precede the patches of a picture."""
        return int(self.patches.class_token) + self.patches.registers if self.patches else 0

    @property
    def sparse(self) -> tuple[bool, ...]:
        """Which layers have experts."""
        return self.expert_layers or (self.experts > 0,) * self.layers

    @property
    def period(self) -> int:
        """The number of layers after which the kinds of layers repeat."""
        kinds, layers = self.sparse, self.layers
        return next(p for p in range(1, layers + 1) if kinds[:p] * (layers // p) == kinds)

    def numbers(self) -> dict[str, tuple[int, ...]]:
        """The layers that the letters J and M of axis strings stand for (see `params`)."""
        kinds = (("J", False), ("M", True))
        return {x: tuple(i for i, y in enumerate(self.sparse) if y == z) for x, z in kinds}

    def sizes(self) -> dict[str, int]:
        """Size of each dimension letter (glossary in `params`)."""
        return {
            "V": self.vocab,
            "E": self.embed_dim or self.dim,
            "D": self.dim,
            "N": self.heads,
            "K": self.kv_heads,
            "G": self.heads // self.kv_heads,
            "H": self.head_dim,
            "F": self.mlp_dim,
            "f": self.bottleneck,
            "L": 1 if self.shared_layers else self.layers,
            "P": self.positions,
            "Y": self.token_types,
            "Z": self.task_types,
            "U": 2 * self.disentangled.span if self.disentangled else self.relative_buckets,
            "A": self.disentangled.taps if self.disentangled else 0,
            "Q": self.dim // (self.disentangled.conv_groups if self.disentangled else 1),
            "q": self.adapters,
            "r": self.adapter_rank,
            "X": self.experts,
            **dict.fromkeys("hw", self.patches.side if self.patches else 0),
            "c": 3,
            "s": self.patches.registers if self.patches else 0,
            "v": self.patches.frames if self.patches else 0,
            "m": self.merger.patches * self.dim if self.merger else 0,
            "u": self.merger.hidden if self.merger else 0,
            "t": self.merger.width if self.merger else 0,
            "j": len(self.merger.deep) if self.merger else 0,
            "W": self.expert_dim or self.mlp_dim,
        } | {letter: len(layers) for letter, layers in self.numbers().items()}

    def switches(self) -> dict[str, Any]:
        """The fields that differ from their defaults."""
        values = {field: getattr(self, field.name) for field in fields(self)}
        return {field.name: value for field, value in values.items() if value != field.default}

    def replace(self, **changes) -> "Arch":
        """A copy with some switches changed."""
        return replace(self, **changes)
