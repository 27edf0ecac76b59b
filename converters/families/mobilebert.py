"""MobileBERT: thin layers between wide ones, norms that do not divide, neighbours of words."""

import re

from converters.families import bert
from converters.family import Family, Head, dense, norm, require
from converters.heads.classifiers import bert_heads, unused_pooler
from jaxpool.heads.parted import PartedDense
from jaxpool.heads.steps import Dense, Norm
from jaxpool.nn.arch import Arch
from jaxpool.nn.records import Narrow


def arch(config) -> Arch:
    """MobileBERT: heads share the features of a thin layer."""
    require(config, trigram_input=True, use_bottleneck=True, use_bottleneck_attention=False)
    require(config, key_query_shared_bottleneck=True, classifier_activation=True)
    require(config, normalization_type="no_norm")
    width = config.intra_bottleneck_size
    return bert.arch(config).replace(
        head_dim=width // config.num_attention_heads,
        embed_dim=config.embedding_size,
        norm="affine",
        narrow=Narrow(width, config.num_feedforward_networks - 1),
    )


LAYER = "encoder.layer.{L}"


def mlp(path: str, layer: str) -> str:
    """The table of an MLP, its norm on its output."""
    return (
        dense(f"layers.{path}.up", f"{layer}.intermediate.dense", "F d")
        + dense(f"layers.{path}.down", f"{layer}.output.dense", "d F")
        + norm(f"layers.{path}.norm", f"{layer}.output.LayerNorm", "d")
    )


def thin(path: str, name: str, axes: str) -> str:
    """The table of a dense layer and its norm."""
    return dense(f"layers.{path}", f"{name}.dense", axes) + norm(
        f"layers.{path}.norm", f"{name}.LayerNorm", axes.split()[0]
    )


# Position and type embeddings, and the norm after them, are as wide as the model.
EMBEDDINGS = re.sub(r"(?<!V )E$", "D", bert.EMBEDDINGS, flags=re.MULTILINE)
NAMES = (
    EMBEDDINGS
    + dense("embed.project", "embeddings.embedding_transformation", "D (A E)")
    + dense("layers.query", f"{LAYER}.attention.self.query", "(N H) d")
    + dense("layers.key", f"{LAYER}.attention.self.key", "(K H) d")
    + dense("layers.value", f"{LAYER}.attention.self.value", "(K H) D")
    + thin("out", f"{LAYER}.attention.output", "d (N H)")
    + thin("narrowed", f"{LAYER}.bottleneck.input", "d D")
    + thin("shared", f"{LAYER}.bottleneck.attention", "d D")
    + thin("widened", f"{LAYER}.output.bottleneck", "D d")
    + mlp("mlps", f"{LAYER}.ffn.{{e}}")
    + mlp("mlp", LAYER)
)
LM = "cls.predictions"


def vocabulary(config, arch: Arch) -> tuple:
    """The transform of a word, and its products with narrow embeddings and a second kernel."""
    transform = Dense("transform", arch.dim, arch.dim, activation=arch.activation)
    words = PartedDense("decoder", arch.embed_dim, arch.dim - arch.embed_dim, arch.vocab)
    return transform, Norm("transform_norm", arch.dim, arch.norm_eps), words


MASKED_LM = Head(
    "sparse",
    vocabulary,
    dense("heads.transform", f"{LM}.transform.dense")
    + norm("heads.transform_norm", f"{LM}.transform.LayerNorm", "O")
    + f"heads.decoder.kernel {LM}.decoder.weight=mobilebert.embeddings.word_embeddings.weight O I\n"
    + f"heads.decoder.rest {LM}.dense.weight I O\nheads.decoder.bias {LM}.bias O\n",
)

MOBILEBERT = Family(
    "MobileBert",
    arch,
    NAMES,
    prefix="mobilebert.",
    heads={"Model": unused_pooler(), **bert_heads("mobilebert."), "MaskedLM": MASKED_LM},
    renames=bert.LEGACY,
    ignored=(*bert.BUFFERS, r"^cls\.", r"\.pooler\."),
    examples=("google/mobilebert-uncased",),
)
