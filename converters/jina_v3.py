"""Jina's XLM-RoBERTa: rotary (embeddings v3, colbert v2) or learned positions (reranker v2)."""

from converters import bert
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
