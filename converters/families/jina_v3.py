"""Jina's XLM-RoBERTa: rotary (embeddings v3, colbert v2) or learned positions (reranker v2)."""

import re
from dataclasses import replace

from converters.families import bert, roberta
from converters.families.nomic import EMBEDDINGS
from converters.family import Family, dense, fused_attention, norm
from converters.heads.classifiers import roberta_heads, unused_pooler
from converters.rotary import rotary
from jaxpool.nn.arch import Arch


def arch(config) -> Arch:
    """Every linear has a bias; the table's rows are not shifted by the padding id."""
    return bert.rotary_arch(config, rotary(config))


LAYER = "encoder.layers.{L}"

NAMES = (
    EMBEDDINGS
    + fused_attention(f"{LAYER}.mixer", "Wqkv", "out_proj")
    + norm("layers.attention_norm", f"{LAYER}.norm1")
    + dense("layers.mlp.up", f"{LAYER}.mlp.fc1", "F D")
    + dense("layers.mlp.down", f"{LAYER}.mlp.fc2", "D F")
    + norm("layers.mlp_norm", f"{LAYER}.norm2")
)
JINA_V3 = Family(
    "JinaEmbeddingsV3",
    arch,
    NAMES,
    prefix="roberta.",
    heads={"Model": unused_pooler(), **roberta_heads("roberta.")},
    ignored=(*bert.BUFFERS, r"^lm_head\.", r"^roberta\.pooler\."),
    pool="mean",
    examples=("jinaai/jina-embeddings-v3-hf",),
)


def flash_arch(config) -> Arch:
    """Published under XLM-RoBERTa's model_type: rotary, or RoBERTa's learned positions."""
    switches = arch(config) if config.position_embedding_type == "rotary" else roberta.arch(config)
    names = getattr(config, "lora_adaptations", None) or ()
    if not names:
        return switches
    return switches.replace(
        adapters=len(names),
        adapter_rank=config.lora_rank,
        adapter_scale=config.lora_alpha / config.lora_rank,
    )


def flash_names(config) -> str:
    """With adapters, every kernel and table is a torch parametrization of three tensors."""
    if not getattr(config, "lora_adaptations", None):
        return NAMES
    return "".join(_adapted(line) for line in NAMES.splitlines() if line)


def _adapted(line: str) -> str:
    path, name, axes = line.split(maxsplit=2)
    leaf, kind = path.rsplit(".", 1)
    if kind not in ("kernel", "embedding"):
        return line + "\n"
    name = name.removesuffix("weight") + "parametrizations.weight"
    first, second = re.findall(r"\(.*?\)|\S+", axes)
    # A kernel on disk is (outputs, inputs), a table (rows, features): A takes what comes in.
    a, b = (f"r {second}", f"{first} r") if kind == "kernel" else (f"{first} r", f"r {second}")
    return (
        f"{path} {name}.original {axes}\n"
        f"{leaf}.lora_a.{kind} {name}.0.lora_A q {a}\n"
        f"{leaf}.lora_b.kernel {name}.0.lora_B q {b}\n"
    )


JINA_FLASH = replace(
    JINA_V3,
    name="XLMRoberta",
    arch=flash_arch,
    names=flash_names,
    config="jina_embeddings_v3",
    aliases={"rotary_emb_base": "rope_theta"},
    examples=(
        "jinaai/jina-embeddings-v3",
        "jinaai/jina-colbert-v2",
        "jinaai/jina-reranker-v2-base-multilingual",
    ),
)
