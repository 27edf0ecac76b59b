"""Llama and the decoders that differ from it by switches: Mistral, Mixtral, OLMo, SmolLM3, ..."""

from converters.families.decoder import (
    arch,
    attention_names,
    decoder_names,
    expert_names,
    family,
    mlp_names,
)
from converters.rotary import rotary, rotary_by_layer
from jaxpool.nn.arch import Arch, Rotary


def arcee_arch(config) -> Arch:
    """Arcee: no gate."""
    return arch(config, gated=False)


def granite_arch(config) -> Arch:
    """Granite: factors on embeddings, scores and branches."""
    return arch(
        config,
        embed_scale=config.embedding_multiplier,
        attention_scale=config.attention_multiplier,
        residual_scale=config.residual_multiplier,
    )


def mixtral_arch(config) -> Arch:
    """Mixtral: experts in every layer, as wide as `intermediate_size`."""
    return arch(
        config,
        experts=config.num_local_experts,
        experts_per_token=config.num_experts_per_tok,
        norm_experts=True,
    )


def olmo2_arch(config, **switches) -> Arch:
    """OLMo 2: norms on the branches, and over all heads of query and key together."""
    return arch(config, placement="branch", qk_norm="full", **switches)


def olmo3_arch(config) -> Arch:
    """OLMo 3: layers with windows turn with a table of their own."""
    return olmo2_arch(config, **rotary_by_layer(config))


def seed_arch(config) -> Arch:
    """Seed-OSS: a field for the bias of the output."""
    return arch(config, out_bias=config.attention_out_bias)


def smollm3_arch(config) -> Arch:
    """SmolLM3: layers without positions (`no_rope_layers` is 1 where there are some)."""
    tables = (rotary(config), Rotary(theta=1.0, dim=0))
    return arch(
        config,
        rotary=tables,
        rotary_layers=tuple(0 if used else 1 for used in config.no_rope_layers),
    )


ARCEE_NAMES = decoder_names(mlp=mlp_names("layers.{L}.mlp", {"up": "up_proj", "down": "down_proj"}))
MIXTRAL_NAMES = decoder_names(mlp=expert_names("layers.{L}.block_sparse_moe", "w1", "w3", "w2"))
OLMO2_NAMES = decoder_names(
    attention_names("layers.{L}.self_attn", qk_norm="(N H)"),
    norms={"attention_norm": "post_attention_layernorm", "mlp_norm": "post_feedforward_layernorm"},
)

ARCEE = family("Arcee", arcee_arch, ARCEE_NAMES, examples=("arcee-ai/AFM-4.5B",))
GRANITE = family("Granite", granite_arch, examples=("ibm-granite/granite-3.3-2b-instruct",))
IQUESTCODER = family("IQuestCoder", arch, examples=("IQuestLab/IQuest-Coder-V1-40B-Instruct",))
INTERNLM3 = family("InternLM3", arch, examples=("internlm/internlm3-8b-instruct",))
LLAMA = family("Llama", arch, examples=("Skywork/Skywork-Reward-V2-Llama-3.2-1B",))
MISTRAL = family("Mistral", arch, examples=("intfloat/e5-mistral-7b-instruct",))
MINISTRAL = family("Ministral", arch, examples=("mistralai/Ministral-8B-Instruct-2410",))
MIXTRAL = family("Mixtral", mixtral_arch, MIXTRAL_NAMES, examples=("mistralai/Mixtral-8x7B-v0.1",))
OLMO2 = family("Olmo2", olmo2_arch, OLMO2_NAMES, examples=("allenai/OLMo-2-1124-7B-RM",))
OLMO3 = family("Olmo3", olmo3_arch, OLMO2_NAMES, examples=("allenai/Olmo-3-1025-7B",))
SEED_OSS = family("SeedOss", seed_arch, examples=("ByteDance-Seed/Seed-OSS-36B-Instruct",))
SMOLLM3 = family("SmolLM3", smollm3_arch, examples=("HuggingFaceTB/SmolLM3-3B",))
