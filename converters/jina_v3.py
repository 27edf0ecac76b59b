"""Jina's XLM-RoBERTa: rotary (embeddings v3, colbert v2) or learned positions (reranker v2)."""

from dataclasses import replace

from converters import bert, roberta
from converters.family import Family, dense, fused_attention, norm
from converters.heads import roberta_heads, unused_pooler
from converters.nomic import EMBEDDINGS
from converters.rotary import rotary
from jaxpool.arch import Arch


def arch(config) -> Arch:
    """Every linear has a bias; the table's rows are not shifted by the padding id."""
    return bert.rotary_arch(config, rotary(config))


LAYER = "encoder.layers.{L}"

JINA_V3 = Family(
    "JinaEmbeddingsV3",
    arch,
    EMBEDDINGS
    + fused_attention(f"{LAYER}.mixer", "Wqkv", "out_proj")
    + norm("layers.attention_norm", f"{LAYER}.norm1")
    + dense("layers.mlp.up", f"{LAYER}.mlp.fc1", "F D")
    + dense("layers.mlp.down", f"{LAYER}.mlp.fc2", "D F")
    + norm("layers.mlp_norm", f"{LAYER}.norm2"),
    prefix="roberta.",
    heads={"Model": unused_pooler(), **roberta_heads("roberta.")},
    ignored=(*bert.BUFFERS, r"^lm_head\.", r"^roberta\.pooler\."),
    pool="mean",
    examples=("jinaai/jina-embeddings-v3-hf",),
)


def flash_arch(config) -> Arch:
    """Published under XLM-RoBERTa's model_type: rotary, or RoBERTa's learned positions."""
    if config.position_embedding_type == "rotary":
        return arch(config)
    return roberta.arch(config)


JINA_FLASH = replace(
    JINA_V3,
    name="XLMRoberta",
    arch=flash_arch,
    config="jina_embeddings_v3",
    aliases={"rotary_emb_base": "rope_theta"},
    examples=(
        "jinaai/jina-embeddings-v3",
        "jinaai/jina-colbert-v2",
        "jinaai/jina-reranker-v2-base-multilingual",
    ),
)
