"""Llama and the decoders that differ from it by switches: Mistral, OLMo 2, SmolLM3."""

from converters.decoder import arch, attention_names, decoder_names, family
from converters.rotary import rotary
from jaxpool.arch import Arch, Rotary


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


OLMO2_NAMES = decoder_names(
    attention_names("layers.{L}.self_attn", qk_norm="(N H)"),
    norms={"attention_norm": "post_attention_layernorm", "mlp_norm": "post_feedforward_layernorm"},
)

LLAMA = family("Llama", arch, examples=("Skywork/Skywork-Reward-V2-Llama-3.2-1B",))
MISTRAL = family("Mistral", arch, examples=("intfloat/e5-mistral-7b-instruct",))
OLMO2 = family("Olmo2", olmo2_arch, OLMO2_NAMES, examples=("allenai/OLMo-2-1124-7B-RM",))
SMOLLM3 = family("SmolLM3", smollm3_arch, examples=("HuggingFaceTB/SmolLM3-3B",))
