"""ConvBERT: half of the heads attend, half convolve; MLPs may be in groups."""

from converters.families import bert, electra
from converters.family import Family, dense
from converters.heads.classifiers import ACTIVATED, masked_lm, token_classifier
from jaxpool.nn.arch import Arch
from jaxpool.nn.heads import Spans


def arch(config) -> Arch:
    """ConvBERT: the heads that attend are fewer by the head ratio; as many convolve."""
    heads = max(config.num_attention_heads // config.head_ratio, 1)
    return electra.arch(config).replace(
        heads=heads,
        kv_heads=heads,
        head_dim=config.hidden_size // heads // 2,
        spans=Spans(heads, config.conv_kernel_size),
        mlp_groups=config.num_groups,
    )


SELF = "encoder.layer.{L}.attention.self"
SPANS = "layers.attention.spans"
NAMES = "\n".join(
    line for line in bert.NAMES.splitlines() if "attention.out.kernel" not in line
) + (
    "\nlayers.attention.{out,spans.out}.kernel "
    "encoder.layer.{L}.attention.output.dense.weight D (N H|N H)\n"
    f"{SPANS}.conv.kernel {SELF}.key_conv_attn_layer.depthwise.weight D 1 A\n"
    f"{SPANS}.key.kernel {SELF}.key_conv_attn_layer.pointwise.weight (N H) D 1\n"
    f"{SPANS}.key.bias {SELF}.key_conv_attn_layer.bias (N H) 1\n"
    + dense(f"{SPANS}.weights", f"{SELF}.conv_kernel_layer", "(z A) (N H)")
    + dense(f"{SPANS}.value", f"{SELF}.conv_out_layer", "(N H) D")
    + dense("embed.project", "embeddings_project", "D E")
    + "layers.mlp.up.blocks encoder.layer.{L}.intermediate.dense.weight g d i\n"
    + "layers.mlp.down.blocks encoder.layer.{L}.output.dense.weight g i d\n"
)

CONVBERT = Family(
    "ConvBert",
    arch,
    NAMES,
    prefix="convbert.",
    heads={
        "SequenceClassification": ACTIVATED,
        "TokenClassification": token_classifier(),
        "MaskedLM": masked_lm(
            "generator_predictions.dense",
            "generator_predictions.LayerNorm",
            "generator_lm_head",
            "convbert.embeddings.word_embeddings",
            act="gelu",
        ),
    },
    renames=bert.LEGACY,
    ignored=(*bert.BUFFERS, r"^discriminator_predictions\.", r"^generator_"),
    examples=("YituTech/conv-bert-base", "dbmdz/convbert-base-turkish-cased"),
)
