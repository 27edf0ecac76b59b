"""DeBERTa, and DeBERTa-v2 and v3: disentangled attention, a context pooler."""

import re

from converters.families import bert
from converters.family import Family, activation, dense, norm
from converters.heads.classifiers import bert_heads, classifier
from jaxpool.nn.arch import Arch, Disentangled

SELF = "encoder.layer.{L}.attention.self"
RELATIVE = "relative.embedding encoder.rel_embeddings.weight U D\n"
NAMES = (
    "\n".join(line for line in bert.NAMES.splitlines() if ".attention.self." not in line)
    + f"\n{RELATIVE}"
    f"layers.attention.{{query,key,value}}.kernel {SELF}.in_proj.weight (K [G H|1 H|1 H]) D\n"
    f"layers.attention.query.bias {SELF}.q_bias (N H)\n"
    f"layers.attention.value.bias {SELF}.v_bias (K H)\n"
    + dense("layers.attention.position_key", f"{SELF}.pos_proj", "(N H) D")
    + dense("layers.attention.position_query", f"{SELF}.pos_q_proj", "(N H) D")
)
NAMES_V2 = (
    re.sub(r"self\.(query|key|value)\.", r"self.\1_proj.", bert.NAMES)
    + RELATIVE
    + norm("relative.norm", "encoder.LayerNorm")
    + dense("layers.attention.position_key", f"{SELF}.pos_key_proj", "(N H) D")
    + dense("layers.attention.position_query", f"{SELF}.pos_query_proj", "(N H) D")
    + "conv.kernel encoder.conv.conv.weight D Q A\nconv.bias encoder.conv.conv.bias D\n"
    + norm("conv.norm", "encoder.conv.LayerNorm")
)


def arch(config, **facts) -> Arch:
    """DeBERTa: every relative distance has a row; no biases on keys."""
    for field, value in (("talking_head", False), ("embedding_size", config.hidden_size)):
        found = getattr(config, field, value)
        if found != value:
            raise ValueError(f"config.json: {field} must be {value} for DeBERTa, found {found}")
    kinds, relative = config.pos_att_type or [], config.relative_attention
    span = config.max_relative_positions
    span = span if span > 0 else config.max_position_embeddings
    facts, base = {"span": span, "key_bias": False} | facts, bert.arch(config)
    return base.replace(
        positions=base.positions if config.position_biased_input else 0,
        attention_scale=(base.head_dim * (1 + len(kinds))) ** -0.5,
        disentangled=Disentangled(
            **(facts if relative else facts | {"span": 0}),
            content_to_position=relative and "c2p" in kinds,
            position_to_content=relative and "p2c" in kinds,
        ),
    )


def arch_v2(config) -> Arch:
    """DeBERTa-v2 and v3: logarithmic buckets, products that may be shared, a convolution."""
    longest = config.max_relative_positions
    longest = longest if longest > 0 else config.max_position_embeddings
    bucketed = getattr(config, "position_buckets", -1) > 0
    return arch(
        config,
        span=config.position_buckets if bucketed else longest,
        max_distance=longest if bucketed else 0,
        shared=getattr(config, "share_att_key", False),
        normed="layer_norm" in getattr(config, "norm_rel_ebd", "none").lower(),
        key_bias=True,
        taps=getattr(config, "conv_kernel_size", 0),
        conv_groups=getattr(config, "conv_groups", 1),
        conv_activation=activation(getattr(config, "conv_act", "tanh")),
    )


HEADS = bert_heads("deberta.") | {
    "SequenceClassification": classifier(
        "pooler.dense", "classifier", lambda config: activation(config.pooler_hidden_act)
    )
}
IGNORED = (r"^(cls|lm_predictions|mask_predictions|pooler)\.", r"\bposition_embeddings\.")
SHARED: dict = dict(
    prefix="deberta.",
    heads=HEADS,
    renames=bert.LEGACY,
    ignored=(*bert.BUFFERS, *IGNORED),
)
DEBERTA = Family("Deberta", arch, NAMES, **SHARED, examples=("cross-encoder/nli-deberta-base",))
DEBERTA_V2 = Family(
    "DebertaV2",
    arch_v2,
    NAMES_V2,
    **SHARED,
    examples=("mixedbread-ai/mxbai-rerank-base-v1", "cross-encoder/nli-deberta-v3-base"),
)
