"""SqueezeBERT: BERT whose kernels are mostly blocks on the diagonal (grouped convolutions)."""

from converters.families import bert
from converters.family import Family, norm, require
from converters.heads.classifiers import bert_heads, unused_pooler
from jaxpool.nn.arch import Arch


def arch(config) -> Arch:
    """SqueezeBERT: as many groups in all kernels but that of attention's output."""
    groups = config.q_groups
    require(
        config,
        k_groups=groups,
        v_groups=groups,
        post_attention_groups=1,
        output_groups=config.intermediate_groups,
        embedding_size=config.hidden_size,
        layer_norm_eps=1e-12,
    )
    return bert.arch(config).replace(attention_groups=groups, mlp_groups=config.intermediate_groups)


LAYER = "encoder.layers.{L}"


def convolution(path: str, name: str, axes: str, bias: str) -> str:
    """The table of a grouped convolution over single tokens, or of one without groups."""
    kernel = "blocks" if "g" in axes else "kernel"
    return f"{path}.{kernel} {name}.weight {axes}\n{path}.bias {name}.bias {bias}\n"


NAMES = (
    bert.EMBEDDINGS
    + "".join(
        convolution(f"layers.attention.{x}", f"{LAYER}.attention.{x}", "(g e H) d 1", f"({n} H)")
        for x, n in (("query", "N"), ("key", "K"), ("value", "K"))
    )
    + convolution("layers.attention.out", f"{LAYER}.post_attention.conv1d", "D (N H) 1", "D")
    + norm("layers.attention_norm", f"{LAYER}.post_attention.layernorm")
    + convolution("layers.mlp.up", f"{LAYER}.intermediate.conv1d", "(g i) d 1", "F")
    + convolution("layers.mlp.down", f"{LAYER}.output.conv1d", "(g d) i 1", "D")
    + norm("layers.mlp_norm", f"{LAYER}.output.layernorm")
)

SQUEEZEBERT = Family(
    "SqueezeBert",
    arch,
    NAMES,
    prefix="transformer.",
    heads={"Model": unused_pooler(), **bert_heads("transformer.")},
    renames=bert.LEGACY,
    ignored=(*bert.BUFFERS, r"^cls\.", r"\.pooler\."),
    examples=("squeezebert/squeezebert-uncased", "squeezebert/squeezebert-mnli"),
)
