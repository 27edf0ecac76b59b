"""`Arch`: everything the forward needs to know about an architecture, as orthogonal switches."""

from dataclasses import dataclass, fields, replace
from typing import Any, Literal

from jaxpool.nn.between import Compression
from jaxpool.nn.heads import Heads, Spans
from jaxpool.nn.low_rank import LatentHeads, Mamba
from jaxpool.nn.records import (
    DeltaNet,
    Disentangled,
    Fourier,
    Merger,
    Mixture,
    Narrow,
    Patches,
    Relative,
    Rotary,
    ShortConvolution,
)

Norm = Literal["layer", "rms", "affine"]
Placement = Literal["pre", "post", "sandwich", "branch"]
# "values": "head", and values are divided by their RMS too
QKNorm = Literal[
    "none", "head", "full", "layer", "head_layer", "heads_layer", "full_layer", "values"
]
# The parts that not all layers have, each with the letter that counts those that do (see `params`).
PARTS = {"a": "attention", "C": "wide", "b": "mixer", "J": "mlp", "M": "experts"}


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
    embed_project: bool = False  # they are projected, though as wide as the model

    # Norms
    norm: Norm = "layer"
    norm_eps: float = 1e-12
    norm_scale: bool = True
    norm_bias: bool = True
    norm_offset: float = 0.0  # added to the stored scale (Gemma stores scale - 1)
    placement: Placement = "post"
    sub_norm: bool = False  # of what a branch's last product multiplies (arXiv 2210.06423)
    inner_attention_norm: bool = False  # attention is norm(x + attention(x)) before its placement
    parallel: bool = False  # the MLP reads what attention reads, not what it made of it
    first_attention_norm: bool = True
    final_norm: bool = False
    final_norm_bias: bool = True
    residual_scale: float = 1.0  # the factor on the output of a residual branch
    layer_scale: bool = False  # a learned factor for each feature of it (arXiv 2103.17239)

    # Attention
    causal: bool = False
    windows: tuple[int, ...] = ()
    lean: int = 0  # how many tokens less a window reaches back than ahead
    rotary: tuple[Rotary, ...] = ()
    rotary_layers: tuple[int, ...] = ()
    alibi: bool = False
    relative_buckets: int = 0
    relative_distance: int = 128
    relative_layers: bool = False  # each layer has a table of relative positions of its own
    disentangled: Disentangled | None = None
    latent: LatentHeads | None = None  # heads made of a few features that they share
    qk_norm: QKNorm = "none"
    qk_norm_last: bool = False  # after the rotation
    attention_scale: float = 0.0  # 0: head_dim ** -0.5
    attention_softcap: float = 0.0
    qkv_bias: bool = True
    key_bias: bool = True  # where `qkv_bias`
    out_bias: bool = True
    value_taps: int = 0  # of a convolution of values that is added to what heads give
    sinks: bool = False  # each head has one more score, of no key (arXiv 2309.17453)
    gated_attention: bool = False  # what a head gives is multiplied by the sigmoid of its gate
    attention_groups: int = 1  # blocks on the diagonal of the kernels of query, key and value
    leading: bool = False  # the first token sees all and is seen by all, whatever the windows
    spans: Spans | None = None  # heads that convolve, beside those that attend
    wide: Heads | None = None  # the heads of layers where they have another size

    # What mixes tokens in the layers that do not attend
    mixer: ShortConvolution | DeltaNet | Fourier | Mamba | Relative | None = None
    attention_layers: tuple[bool, ...] = ()  # which layers attend; empty: all

    # MLP
    gated: bool = False
    activation: str = "gelu"
    mlp_bias: bool = True
    down_bias: bool | None = None  # None: like mlp_bias
    mlp_groups: int = 1  # blocks on the diagonal of its kernels
    bottleneck: int = 0  # features of a second, narrow MLP after the first; it has no gate
    narrow: Narrow | None = None  # layers that work in fewer features than pass between them
    reread_dim: int = 0  # features of what each layer reads of the embeddings, after its MLP

    # Mixture of experts, in place of the MLP of some layers
    experts: int = 0
    experts_per_token: int = 0
    expert_dim: int = 0
    expert_layers: tuple[bool, ...] = ()  # which layers have experts; empty: all or none
    norm_experts: bool = False  # the weights of a token's experts sum to one
    mixture: Mixture = Mixture()

    # Low-rank adapters of every table and kernel, one of which a request may choose
    adapters: int = 0
    adapter_rank: int = 0
    adapter_scale: float = 1.0

    patches: Patches | None = None  # what a vision tower reads; it has no vocabulary
    merger: Merger | None = None  # what makes a tower's patches tokens of a text
    vision: "Arch | None" = None  # the tower beside a text model
    decoder: "Arch | None" = None  # reads the tokens again, one behind, and this one's output
    start: int | None = None  # a decoder's first token; -1 for the text's last; None of an encoder
    apart: bool = False  # a decoder reads a text of its own, and the vectors of another
    merged: bool = False  # a decoder attends to both at once, by the same kernels
    compression: Compression | None = None  # of documents, between layers
    shared_layers: bool = False  # one set of weights runs `layers` times
    max_length: int = 512  # the most tokens that positions allow
    dtype: str = "float32"  # of activations between operations
    kernel: str = "xla"  # family of attention kernels (see `kernels.choose`)

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
        for field in ("windows", "rotary_layers", "attention_layers", "expert_layers"):
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
    def reads_types(self) -> bool:
        """Whether token types make a difference."""
        relative = isinstance(self.mixer, Relative)
        return self.token_types > 0 or relative or self.compression is not None

    @property
    def gridded(self) -> bool:
        """Whether a tower reads the rows and columns of patches."""
        return self.patches is not None and (self.patches.placed or self.axes > 1)

    @property
    def before_patches(self) -> int:
        """The tokens that precede the patches of a picture."""
        return int(self.patches.class_token) + self.patches.registers if self.patches else 0

    @property
    def parts(self) -> tuple[tuple[str, str], ...]:
        """The parts of each layer: "attention", "wide" or "mixer", and "mlp" or "experts"."""
        attends = self.attention_layers or (True,) * self.layers
        sparse = self.expert_layers or (self.experts > 0,) * self.layers
        wide = self.wide.layers if self.wide else ()
        heads = ["wide" if layer in wide else "attention" for layer in range(self.layers)]
        mixing = [own if x else "mixer" for own, x in zip(heads, attends, strict=True)]
        return tuple(zip(mixing, ["experts" if x else "mlp" for x in sparse], strict=True))

    def numbers(self) -> dict[str, tuple[int, ...]]:
        """The layers that the letters of `PARTS` stand for in axis strings."""
        every = list(enumerate(self.parts))
        return {x: tuple(i for i, parts in every if name in parts) for x, name in PARTS.items()}

    def attending(self, part: str) -> "Arch":
        """The architecture of the layers that attend with "attention", or with "wide" heads."""
        if self.wide is None:
            return self
        mine = [part in parts for parts in self.parts]
        reach = next((self.windows[i] for i, one in enumerate(mine) if self.windows and one), 0)
        windows = tuple(x if one else reach for x, one in zip(self.windows, mine, strict=False))
        heads = self.wide if part == "wide" else self
        return self.replace(kv_heads=heads.kv_heads, head_dim=heads.head_dim, windows=windows)

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
            "d": self.reread_dim,
            "L": 1 if self.shared_layers else self.layers,
            "P": self.positions,
            "Y": self.token_types,
            "Z": self.task_types,
            "U": 2 * self.disentangled.span if self.disentangled else self.relative_buckets,
            "A": self.disentangled.taps if self.disentangled else self.value_taps,
            "Q": self.dim // (self.disentangled.conv_groups if self.disentangled else 1),
            "q": self.adapters,
            "r": self.adapter_rank,
            "X": self.experts,
            **dict.fromkeys("hw", self.patches.side if self.patches else 0),
            **{"c": 3, "l": 2},
            "s": self.patches.registers if self.patches else 0,
            "v": self.patches.frames if self.patches else 0,
            "m": self.merger.joined * self.dim if self.merger else 0,
            "u": self.merger.hidden if self.merger else 0,
            "t": self.merger.width if self.merger else 0,
            "j": len(self.merger.deep) if self.merger else 0,
            "W": self.expert_dim or self.mlp_dim,
            "e": self.mixture.shared,
            **self._other_heads(),
            **{letter: len(layers) for letter, layers in self.numbers().items()},
            **(self.mixer.sizes() if self.mixer else {}),
            **self._groups(),
            **(self.spans.sizes() if self.spans else {}),
            **(self.narrow.sizes() if self.narrow else {}),
        }

    def _other_heads(self) -> dict[str, int]:
        latent = self.latent.sizes(self.head_dim) if self.latent else {}
        return latent | ({"n": self.wide.kv_heads, "k": self.wide.head_dim} if self.wide else {})

    def _groups(self) -> dict[str, int]:
        count = max(self.attention_groups, self.mlp_groups)
        if count == 1:
            return {}
        whole = {"d": self.dim, "e": self.heads, "i": self.mlp_dim}
        return {"g": count} | {letter: size // count for letter, size in whole.items()}

    def switches(self) -> dict[str, Any]:
        """The fields that differ from their defaults."""
        values = {field: getattr(self, field.name) for field in fields(self)}
        return {field.name: value for field, value in values.items() if value != field.default}

    def replace(self, **changes) -> "Arch":
        """A copy with some switches changed."""
        return replace(self, **changes)
