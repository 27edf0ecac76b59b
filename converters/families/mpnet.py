"""MPNet: BERT without token types, with RoBERTa's positions and a bucketed relative bias."""

from converters.families import bert
from converters.family import Family, attention, dense, norm
from converters.heads.classifiers import roberta_heads, unused_pooler
from jaxpool.nn.arch import Arch

OFFSET = 2  # the position of the first token, whatever pad_token_id says


def arch(config) -> Arch:
    """MPNet: one relative bias, shared by all layers."""
    return bert.arch(config).replace(
        position_offset=OFFSET,
        uncounted=OFFSET - 1,
        max_length=config.max_position_embeddings - OFFSET,
        relative_buckets=config.relative_attention_num_buckets,
    )


LAYER = "encoder.layer.{L}"

MPNET = Family(
    "MPNet",
    arch,
    bert.EMBEDDINGS
    + "relative.embedding encoder.relative_attention_bias.weight U N\n"
    + attention(f"{LAYER}.attention.attn", "q", "k", "v", "o")
    + norm("layers.attention_norm", f"{LAYER}.attention.LayerNorm")
    + dense("layers.mlp.up", f"{LAYER}.intermediate.dense", "F D")
    + dense("layers.mlp.down", f"{LAYER}.output.dense", "D F")
    + norm("layers.mlp_norm", f"{LAYER}.output.LayerNorm"),
    prefix="mpnet.",
    heads={"Model": unused_pooler(), **roberta_heads("mpnet.")},
    renames=bert.LEGACY,
    ignored=(*bert.BUFFERS, r"^lm_head\.", r"^mpnet\.pooler\."),
    examples=("sentence-transformers/all-mpnet-base-v2",),
)
