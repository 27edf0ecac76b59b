"""Qwen 2 and 3, reward models and mixtures of experts among them."""

from converters.families.decoder import (
    HEADS,
    MASKED_LM,
    PROCESS_REWARD,
    PROJECTOR,
    REWARD,
    arch,
    decoder_names,
    expert_names,
    family,
)
from jaxpool.nn.arch import Arch


def qwen2_arch(config) -> Arch:
    """Qwen2: biases on query, key and value alone."""
    return arch(config, qkv_bias=True, out_bias=False)


def qwen3_arch(config) -> Arch:
    """Qwen3: each head's query and key are normalized."""
    return arch(config, qk_norm="head")


def qwen3_moe_arch(config) -> Arch:
    """Qwen3-MoE: experts in every `decoder_sparse_step`-th layer, less `mlp_only_layers`."""
    step, plain = config.decoder_sparse_step, config.mlp_only_layers or ()
    sparse = tuple(i not in plain and (i + 1) % step == 0 for i in range(config.num_hidden_layers))
    return qwen3_arch(config).replace(
        experts=config.num_experts,
        experts_per_token=config.num_experts_per_tok,
        expert_dim=config.moe_intermediate_size,
        expert_layers=sparse,
        norm_experts=config.norm_topk_prob,
    )


EXPERT_NAMES = expert_names("layers.{L}.mlp", "gate_proj", "up_proj", "down_proj")
QWEN2 = family(
    "Qwen2",
    qwen2_arch,
    heads=HEADS | {"RewardModel": REWARD, "ProcessRewardModel": PROCESS_REWARD},
    examples=("Alibaba-NLP/gte-Qwen2-1.5B-instruct", "Qwen/Qwen2.5-Math-PRM-7B"),
)
QWEN3 = family(
    "Qwen3",
    qwen3_arch,
    heads=HEADS | {"Ranking": PROJECTOR, "MaskedLM": MASKED_LM},
    examples=(
        "Qwen/Qwen3-Embedding-0.6B",
        "Qwen/Qwen3-Reranker-0.6B",
        "jinaai/jina-reranker-v3",
        "naver/splade-code-06B",
    ),
)
QWEN3_MOE = family(
    "Qwen3Moe", qwen3_moe_arch, decoder_names() + EXPERT_NAMES, examples=("Qwen/Qwen3-30B-A3B",)
)
