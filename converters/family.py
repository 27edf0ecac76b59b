"""The description of a family of architectures: its `Arch`, its name table, its heads."""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, NamedTuple

from jaxpool.images.conversation import Conversation
from jaxpool.nn.arch import Arch


class Head(NamedTuple):
    """A task head of a family.

    task: what the steps compute ("classify", "token_classify", "token_embed", "sparse", ...);
    steps: (config, arch) -> chain of `jaxpool.heads.steps` steps, without the final activation;
    names: the table of its tensors, `steps` names under `heads.`, or a function of the
    configuration that gives it;
    defaults: `PoolerConfig` fields that this class sets where nobody else does;
    pictures: (config, arch) -> the chain after the vision tower, where a model has one of its own;
    optional_bias: files may lack the biases of the steps, which then have none;
    sizes: fields that config.json may omit -> the tensor whose first axis has that size;
    rows: config -> which token rows count (see `jaxpool.tasks.token_rows`), where not all do;
    tokens: (config, arch) -> the chain that gives vectors of tokens, where it is one of its own.
    """

    task: str
    steps: Callable[[Any, Arch], tuple]
    names: str | Callable[[Any], str]
    defaults: Mapping[str, Any] = MappingProxyType({})
    optional_bias: bool = False
    sizes: Mapping[str, str] = MappingProxyType({})
    pictures: Callable[[Any, Arch], tuple] = lambda config, arch: ()
    rows: Callable[[Any], Any] = lambda config: None
    tokens: Callable[[Any, Arch], tuple] = lambda config, arch: ()

    def others(self, config, arch: Arch) -> tuple[tuple, tuple]:
        """The chains of pictures and of tokens; empty where the head's own serves them."""
        return self.pictures(config, arch), self.tokens(config, arch)

    def table(self, config) -> str:
        """The table of its tensors under a configuration."""
        return self.names(config) if callable(self.names) else self.names


@dataclass(frozen=True)
class Family:
    """One declarative description of a family of checkpoints.

    name: what its architectures' names start with ("Bert": BertModel, BertForMaskedLM, ...);
    arch: configuration object -> `Arch`;
    names: the table of the base model (see `rows`), written against on-disk names, or a function
        of the configuration that gives it;
    prefix: what precedes base names in files of models with a head ("bert.");
    heads: by the architecture's ending ("SequenceClassification", "MaskedLM", "Model", ...);
    renames: (pattern, replacement) of older dialects, applied to names on disk;
    ignored: patterns of tensors that carry no information or belong to heads not in use;
    unread: those that a configuration leaves out, such as the layers after the last that is read;
    pool: the pooling of an embedding model without sentence-transformers files, or a function
    configuration object -> pooling;
    config: the model_type whose transformers class reads config.json, where it has none itself;
    adapter: configuration object -> the folder of the LoRA adapter that is part of the model;
    derive: the tensors of a file, and a configuration -> those of the table, some of them computed
        (see `derived`);
    aliases: keys of published config.json files -> their names in that class;
    unfold: the fields of a config.json that holds another model's -> those of that model's class;
    sizes: fields of config.json that tensors decide -> the tensor and which of its axes;
    special_tokens: whether the tokenizer adds its own;
    include_prompt: whether prompts are pooled, where no file says so;
    ended: whether the end-of-text token is put behind each text, be it that no file says so;
    lower_case: whether texts are lower-cased, be it that the tokenizer's files say so or not;
    padded: whether texts are padded to the longest that there is, and padding counts as text;
    conversation: the words around texts and images, for models that read both at once, or a
    function of a model's name and configuration that gives them;
    processor: the kind of image processor (a key of `images.KINDS`) where no file names one;
    examples: published models, for the table of supported architectures.
    """

    name: str
    arch: Callable[[Any], Arch]
    names: str | Callable[[Any], str]
    prefix: str = ""
    heads: Mapping[str, Head] = field(default_factory=dict)
    renames: tuple[tuple[str, str], ...] = ()
    ignored: tuple[str, ...] = ()
    unread: Callable[[Any], tuple[str, ...]] = lambda config: ()
    pool: str | Callable[[Any], str] = "cls"
    config: str = ""
    adapter: Callable[[Any], str] | None = None
    derive: Callable[[Any, Any], Any] | None = None
    aliases: Mapping[str, str] = field(default_factory=dict)
    unfold: Callable[[Mapping[str, Any]], dict[str, Any]] = dict
    sizes: Mapping[str, tuple[str, int]] = field(default_factory=dict)
    special_tokens: bool = True
    include_prompt: bool = True
    ended: bool = False
    lower_case: bool = False
    padded: bool = False
    conversation: Conversation | Callable[[str, Any], Conversation] | None = None
    processor: str = ""
    examples: tuple[str, ...] = ()

    def canonical(self, name: str) -> str:
        """The name in the table of a tensor's name on disk."""
        for pattern, replacement in self.renames:
            name = re.sub(pattern, replacement, name)
        return name

    def table(self, config) -> str:
        """The table of the base model under a configuration."""
        return self.names(config) if callable(self.names) else self.names


def features(config) -> int:
    """Features of a head: their own key, or the hidden size shared among the heads."""
    return getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads


def sizes(config) -> dict[str, Any]:
    """The sizes of an `Arch` that every configuration of transformers has by the same names."""
    heads = config.num_attention_heads
    return {
        "vocab": getattr(config, "vocab_size", 0),  # none of pictures
        "layers": config.num_hidden_layers,
        "dim": config.hidden_size,
        "heads": heads,
        "kv_heads": getattr(config, "num_key_value_heads", None) or heads,
        "head_dim": features(config),
    }


def require(config, **wanted) -> None:
    """ValueError for a field that has another value than the one there is code for."""
    for name, value in wanted.items():
        if (found := getattr(config, name, value)) != value:
            raise ValueError(f"config.json: {name} must be {value}, found {found}")


ACTIVATIONS = {
    "gelu": "gelu",
    "gelu_python": "gelu",
    "gelu_new": "gelu_tanh",
    "gelu_fast": "gelu_tanh",
    "gelu_pytorch_tanh": "gelu_tanh",
    "gelu_accurate": "gelu_tanh",
    "quick_gelu": "gelu_quick",
    "swish": "silu",
    "silu": "silu",
    "relu": "relu",
    "relu2": "relu2",
    "mish": "mish",
    "tanh": "tanh",
    "sigmoid": "sigmoid",
    "linear": "identity",
}


def activation(name: str) -> str:
    """Our name of a configuration's activation function."""
    if name not in ACTIVATIONS:
        raise ValueError(f"config.json: unknown activation {name!r}; known: {sorted(ACTIVATIONS)}")
    return ACTIVATIONS[name]


def dense(path: str, name: str, axes: str = "O I") -> str:
    """Two table lines: the kernel and the bias of a linear layer (rows of absent leaves drop)."""
    inputs = axes.split(")")[0] + ")" if axes.startswith("(") else axes.split()[0]
    return f"{path}.kernel {name}.weight {axes}\n{path}.bias {name}.bias {inputs}\n"


def norm(path: str, name: str, axes: str = "D") -> str:
    """Two table lines: the scale and the bias of a norm."""
    return f"{path}.scale {name}.weight {axes}\n{path}.bias {name}.bias {axes}\n"


def attention(layer: str, query: str, key: str, value: str, out: str) -> str:
    """The table lines of an attention block with a tensor for each of its four products."""
    return (
        dense("layers.attention.query", f"{layer}.{query}", "(N H) D")
        + dense("layers.attention.key", f"{layer}.{key}", "(K H) D")
        + dense("layers.attention.value", f"{layer}.{value}", "(K H) D")
        + dense("layers.attention.out", f"{layer}.{out}", "D (N H)")
    )


def fused_attention(layer: str, qkv: str, out: str) -> str:
    """The table lines of an attention block whose query, key and value share one tensor."""
    return dense("layers.attention.{query,key,value}", f"{layer}.{qkv}", "(N H|K H|K H) D") + dense(
        "layers.attention.out", f"{layer}.{out}", "D (N H)"
    )
