"""OLMo, OLMoE, FlexOLMo, EXAONE 4 and CWM: Llama with other norms, experts or windows."""

from converters.families.decoder import (
    arch,
    attention_names,
    decoder_names,
    expert_names,
    family,
)
from converters.families.llama import olmo2_arch
from converters.family import require
from converters.rotary import rotary
from jaxpool.nn.arch import Arch, Rotary


def olmo_arch(config) -> Arch:
    """OLMo: norms without parameters."""
    require(config, clip_qkv=None)
    return arch(config, norm="layer", norm_eps=1e-5, norm_scale=False, norm_bias=False)


def olmoe_arch(config) -> Arch:
    """OLMoE: experts, and norms over all heads of query and key together."""
    require(config, clip_qkv=None)
    return arch(
        config,
        qk_norm="full",
        experts=config.num_experts,
        experts_per_token=config.num_experts_per_tok,
        norm_experts=config.norm_topk_prob,
    )


def flex_olmo_arch(config) -> Arch:
    """FlexOLMo: OLMo 2's norms and OLMoE's experts."""
    return olmo2_arch(
        config,
        experts=config.num_experts,
        experts_per_token=config.num_experts_per_tok,
        norm_experts=config.norm_topk_prob,
    )


def exaone4_arch(config) -> Arch:
    """EXAONE 4: norms on the branches; among windows, layers without have no positions."""
    facts: dict = dict(placement="branch", qk_norm="head")
    if config.sliding_window:
        none = Rotary(theta=1.0, dim=0)
        facts["rotary"] = (rotary(config), none)
        turned = (kind == "sliding_attention" for kind in config.layer_types)
        facts["rotary_layers"] = tuple(0 if turns else 1 for turns in turned)
    return arch(config, **facts)


OLMOE_PARTS = (
    attention_names("layers.{L}.self_attn", qk_norm="(N H)"),
    expert_names("layers.{L}.mlp", "gate_proj", "up_proj", "down_proj"),
)
AFTER = {"attention_norm": "post_attention_layernorm", "mlp_norm": "post_feedforward_layernorm"}

CWM = family("Cwm", arch, examples=("facebook/cwm",))
EXAONE4 = family(
    "Exaone4",
    exaone4_arch,
    decoder_names(norms=AFTER),
    examples=("LGAI-EXAONE/EXAONE-4.0-1.2B",),
)
FLEX_OLMO = family(
    "FlexOlmo",
    flex_olmo_arch,
    decoder_names(*OLMOE_PARTS, AFTER),
    examples=("allenai/FlexOlmo-7x7B-1T",),
)
OLMO = family("Olmo", olmo_arch, examples=("allenai/OLMo-1B-hf",))
OLMOE = family(
    "Olmoe", olmoe_arch, decoder_names(*OLMOE_PARTS), examples=("allenai/OLMoE-1B-7B-0924",)
)
