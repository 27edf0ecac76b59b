"""Llama and the decoders that differ from it by switches: Mistral, Qwen, OLMo 2, SmolLM3."""

from converters.decoder import (
    HEADS,
    IGNORED,
    PROCESS_REWARD,
    REWARD,
    arch,
    attention_names,
    decoder_names,
)
from converters.family import Family
from converters.rotary import rotary
from jaxpool.arch import Arch, Rotary

NAMES = decoder_names()


def family(name: str, switches, names: str = NAMES, **changes) -> Family:
    """A family whose files are Llama's but for what is given."""
    facts = dict(prefix="model.", heads=HEADS, ignored=IGNORED, pool="lasttoken")
    return Family(name, switches, names, **(facts | changes))


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


def olmo2_arch(config) -> Arch:
    """OLMo 2: norms on the branches, and over all heads of query and key together."""
    return arch(config, placement="branch", qk_norm="full")


def smollm3_arch(config) -> Arch:
    """SmolLM3: layers without positions (`no_rope_layers` is 1 where there are some)."""
    tables = (rotary(config), Rotary(theta=1.0, dim=0))
    return arch(
        config,
        rotary=tables,
        rotary_layers=tuple(0 if used else 1 for used in config.no_rope_layers),
    )


EXPERTS = "layers.{L}.mlp.experts.{X}"
EXPERT_NAMES = f"""
layers.experts.router.kernel layers.{{L}}.mlp.gate.weight   X D
layers.experts.up.kernel     {EXPERTS}.up_proj.weight   W D
layers.experts.gate.kernel   {EXPERTS}.gate_proj.weight W D
layers.experts.down.kernel   {EXPERTS}.down_proj.weight D W
"""
OLMO2_NAMES = decoder_names(
    attention_names("layers.{L}.self_attn", qk_norm="(N H)"),
    norms={"attention_norm": "post_attention_layernorm", "mlp_norm": "post_feedforward_layernorm"},
)

LLAMA = family("Llama", arch, examples=("Skywork/Skywork-Reward-V2-Llama-3.2-1B",))
MISTRAL = family("Mistral", arch, examples=("intfloat/e5-mistral-7b-instruct",))
QWEN2 = family(
    "Qwen2",
    qwen2_arch,
    heads=HEADS | {"RewardModel": REWARD, "ProcessRewardModel": PROCESS_REWARD},
    examples=("Alibaba-NLP/gte-Qwen2-1.5B-instruct", "Qwen/Qwen2.5-Math-PRM-7B"),
)
QWEN3 = family("Qwen3", qwen3_arch, examples=("Qwen/Qwen3-Embedding-0.6B",))
QWEN3_MOE = family(
    "Qwen3Moe", qwen3_moe_arch, NAMES + EXPERT_NAMES, examples=("Qwen/Qwen3-30B-A3B",)
)
OLMO2 = family("Olmo2", olmo2_arch, OLMO2_NAMES, examples=("allenai/OLMo-2-1124-7B-RM",))
SMOLLM3 = family("SmolLM3", smollm3_arch, examples=("HuggingFaceTB/SmolLM3-3B",))
