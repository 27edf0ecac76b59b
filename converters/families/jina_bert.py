"""Jina's BERT (embeddings v2): ALiBi in place of position embeddings, and a gated MLP."""

from dataclasses import replace

from converters.families import bert
from converters.family import Family, attention, dense, norm
from converters.heads.classifiers import bert_heads, unused_pooler
from jaxpool.nn.arch import Arch

GATES = {"geglu": "gelu", "reglu": "relu"}


def arch(config) -> Arch:
    """No position table, so no limit but the one that config.json states."""
    if config.feed_forward_type not in GATES:
        raise ValueError(
            f"config.json: unknown feed_forward_type {config.feed_forward_type!r}; "
            f"known: {sorted(GATES)}"
        )
    return bert.arch(config).replace(
        positions=0,
        alibi=True,
        gated=True,
        activation=GATES[config.feed_forward_type],
        mlp_bias=False,
        down_bias=True,
    )


def qk_arch(config) -> Arch:
    """Queries and keys normalized, and attention with a residual and a norm of its own."""
    return arch(config).replace(qk_norm="layer", inner_attention_norm=True)


LAYER = "encoder.layer.{L}"
ATTENTION = bert.EMBEDDINGS + attention(
    f"{LAYER}.attention", "self.query", "self.key", "self.value", "output.dense"
)

JINA_BERT = Family(
    "JinaBert",
    arch,
    ATTENTION
    + norm("layers.attention_norm", f"{LAYER}.attention.output.LayerNorm")
    + dense("layers.mlp.{gate,up}", f"{LAYER}.mlp.gated_layers", "(F|F) D")
    + dense("layers.mlp.down", f"{LAYER}.mlp.wo", "D F")
    + norm("layers.mlp_norm", f"{LAYER}.mlp.layernorm"),
    prefix="bert.",
    heads={"Model": unused_pooler(), **bert_heads("bert.")},
    ignored=(*bert.BUFFERS, r"alibi$", r"^cls\.", r"\.pooler\."),
    pool="mean",
    examples=("jinaai/jina-embeddings-v2-base-en", "jinaai/jina-reranker-v1-turbo-en"),
)
JINA_BERT_QK = replace(
    JINA_BERT,
    arch=qk_arch,
    names=ATTENTION
    + norm("layers.attention.query_norm", f"{LAYER}.attention.self.layer_norm_q", "(N H)")
    + norm("layers.attention.key_norm", f"{LAYER}.attention.self.layer_norm_k", "(K H)")
    + norm("layers.attention_inner_norm", f"{LAYER}.attention.output.LayerNorm")
    + norm("layers.attention_norm", f"{LAYER}.layer_norm_1")
    + dense("layers.mlp.{up,gate}", f"{LAYER}.mlp.up_gated_layer", "(F|F) D")
    + dense("layers.mlp.down", f"{LAYER}.mlp.down_layer", "D F")
    + norm("layers.mlp_norm", f"{LAYER}.layer_norm_2"),
    examples=("jinaai/jina-embeddings-v2-base-code", "jinaai/jina-embeddings-v2-base-de"),
)
