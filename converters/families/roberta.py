"""RoBERTa and its multilingual and French twins: BERT with shifted positions."""

from dataclasses import replace

from converters.families import bert
from converters.family import Family
from converters.heads.classifiers import roberta_heads, unused_pooler
from jaxpool.nn.arch import Arch


def arch(config) -> Arch:
    """RoBERTa: positions start behind the padding id, and do not count tokens that have it."""
    offset = config.pad_token_id + 1
    return bert.arch(config).replace(
        position_offset=offset,
        uncounted=config.pad_token_id,
        max_length=config.max_position_embeddings - offset,
    )


ROBERTA = Family(
    "Roberta",
    arch,
    bert.NAMES,
    prefix="roberta.",
    heads={"Model": unused_pooler(), **roberta_heads("roberta.")},
    renames=bert.LEGACY,
    ignored=(*bert.BUFFERS, r"^lm_head\.", r"^roberta\.pooler\."),
    examples=("sentence-transformers/all-roberta-large-v1",),
)
XLM_ROBERTA = replace(
    ROBERTA,
    name="XLMRoberta",
    examples=("intfloat/multilingual-e5-large", "BAAI/bge-m3", "BAAI/bge-reranker-v2-m3"),
)
CAMEMBERT = replace(ROBERTA, name="Camembert", examples=("dangvantuan/sentence-camembert-large",))
