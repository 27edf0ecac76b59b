"""Decoders made bidirectional under architecture names of their own; how they pool is a field."""

from dataclasses import replace

from converters.families.decoder import arch, family, token_score
from converters.families.qwen import qwen3_arch
from converters.family import Family, Head, dense
from jaxpool.heads.steps import Calibrate, Dense, Pool
from jaxpool.nn.arch import Arch

POOLS = {"avg": "mean", "cls": "cls", "last": "lasttoken"}


def pool(config) -> str:
    """The pooling that `config.pooling` names; there is no default."""
    name = getattr(config, "pooling", None)
    if name not in POOLS:
        raise ValueError(f"config.json: pooling must be one of {list(POOLS)}, found {name!r}")
    return POOLS[name]


def both_ways(config) -> Arch:
    """Qwen3 without a causal mask, whatever its files say."""
    return qwen3_arch(config).replace(causal=False)


def score(config, arch) -> tuple:
    """A linear layer on what is pooled; its bias where a file has one."""
    # NVIDIA's rerankers divide their logit by a temperature.
    temperature = getattr(config, "score_temperature", None) or 1.0
    scale = () if temperature == 1.0 else (Calibrate(sigma=temperature),)
    return (Pool((pool(config),)), Dense("score", arch.dim, config.num_labels), *scale)


LLAMA_BIDIRECTIONAL: Family = family(
    "LlamaBidirectional",
    arch,
    heads={
        "SequenceClassification": Head(
            "classify", score, dense("heads.score", "score"), optional_bias=True
        ),
        "TokenClassification": token_score(),
    },
    pool=pool,
    config="llama",
    aliases={"temperature": "score_temperature"},  # transformers drops it as one of generation
    examples=("nvidia/llama-nemotron-embed-1b-v2", "nvidia/llama-nemotron-rerank-1b-v2"),
)

# voyage-4-nano: every hidden state goes through one more linear layer, then the mean.
VOYAGE: Family = family(
    "VoyageQwen3BidirectionalEmbed",
    qwen3_arch,
    heads={
        "Model": Head(
            "embed",
            lambda config, arch: (Dense("linear", arch.dim, config.num_labels, bias=False),),
            dense("heads.linear", "linear"),
        )
    },
    pool="mean",
    examples=("voyageai/voyage-4-nano",),
)

# Giga-Embeddings and pplx-embed: the mean of what Qwen3 gives without a causal mask.
QWEN3_BIDIRECTIONAL: Family = family(
    "Qwen3Bidirectional",
    both_ways,
    pool="mean",
    config="qwen3",
    examples=("ai-sage/Giga-Embeddings-instruct-3B-0826",),
)
PPLX: Family = replace(
    QWEN3_BIDIRECTIONAL, name="PPLXQwen3", examples=("perplexity-ai/pplx-embed-v1-0.6b",)
)
