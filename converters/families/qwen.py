"""Qwen 2 and 3, reward models and mixtures of experts among them."""

from typing import Any

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
    shared_expert_names,
)
from jaxpool.nn.arch import Arch
from jaxpool.nn.records import Mixture


def qwen2_arch(config) -> Arch:
    """Qwen2: biases on query, key and value alone."""
    return arch(config, qkv_bias=True, out_bias=False)


def qwen3_arch(config) -> Arch:
    """Qwen3: each head's query and key are normalized."""
    return arch(config, qk_norm="head")


def experts(config) -> dict[str, Any]:
    """Experts in every `decoder_sparse_step`-th layer, less `mlp_only_layers`."""
    step, plain = config.decoder_sparse_step, config.mlp_only_layers or ()
    sparse = tuple(i not in plain and (i + 1) % step == 0 for i in range(config.num_hidden_layers))
    return dict(
        experts=config.num_experts,
        experts_per_token=config.num_experts_per_tok,
        expert_dim=config.moe_intermediate_size,
        expert_layers=sparse,
        norm_experts=config.norm_topk_prob,
    )


def gated_share(config) -> Mixture:
    """The MLP beside the experts has a gate."""
    return Mixture(shared=config.shared_expert_intermediate_size, shared_gate=True)


def qwen2_moe_arch(config) -> Arch:
    """Qwen1.5-MoE and Qwen2-MoE."""
    own = dict(qkv_bias=config.qkv_bias, out_bias=False, mixture=gated_share(config))
    return arch(config, **experts(config), **own)


def qwen3_moe_arch(config) -> Arch:
    """Qwen3-MoE: no MLP beside the experts."""
    return qwen3_arch(config).replace(**experts(config))


EXPERT_NAMES = expert_names("layers.{L}.mlp", "gate_proj", "up_proj", "down_proj")
SHARED_NAMES = (
    shared_expert_names("layers.{L}.mlp.shared_expert")
    + "layers.experts.shared_gate.kernel layers.{L}.mlp.shared_expert_gate.weight 1 D\n"
)
QWEN2 = family(
    "Qwen2",
    qwen2_arch,
    heads=HEADS | {"RewardModel": REWARD, "ProcessRewardModel": PROCESS_REWARD},
    examples=("Alibaba-NLP/gte-Qwen2-1.5B-instruct", "Qwen/Qwen2.5-Math-PRM-7B"),
)
QWEN2_MOE = family(
    "Qwen2Moe",
    qwen2_moe_arch,
    decoder_names() + EXPERT_NAMES + SHARED_NAMES,
    examples=("Qwen/Qwen1.5-MoE-A2.7B",),
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
