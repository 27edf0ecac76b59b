"""Qwen3.5 for texts: gated delta nets beside gated attention, and experts in the larger ones."""

from typing import Any

from converters.families.decoder import IGNORED, arch, attention_names, decoder_names, family
from converters.families.qwen import EXPERT_NAMES, SHARED_NAMES, gated_share
from converters.family import Family
from converters.rotary import rotary
from jaxpool.nn.arch import Arch
from jaxpool.nn.records import DeltaNet


def qwen3_5_arch(config, **switches) -> Arch:
    """Every fourth layer attends; norms are stored less one; a part of each head turns."""
    return arch(
        config,
        norm_offset=1.0,
        qk_norm="head",
        rotary=(rotary(config, partial=True),),
        gated_attention=True,
        mixer=DeltaNet(
            key_heads=config.linear_num_key_heads,
            value_heads=config.linear_num_value_heads,
            key_dim=config.linear_key_head_dim,
            value_dim=config.linear_value_head_dim,
            taps=config.linear_conv_kernel_dim,
        ),
        attention_layers=tuple(kind == "full_attention" for kind in config.layer_types),
        **switches,
    )


def qwen3_5_moe_arch(config) -> Arch:
    """Experts in every layer."""
    return qwen3_5_arch(
        config,
        mlp_dim=config.moe_intermediate_size,
        experts=config.num_experts,
        experts_per_token=config.num_experts_per_tok,
        norm_experts=True,
        mixture=gated_share(config),
    )


LAYER = "layers.{L}"
ATTENTION = attention_names(f"{LAYER}.self_attn").replace(
    "query.kernel layers.{L}.self_attn.q_proj.weight (N H)",
    "{query,gate}.kernel layers.{L}.self_attn.q_proj.weight (N [H|H])",
)
MIXER = """
layers.mixer.{query,key,value}.kernel      layers.{L}.linear_attn.in_proj_qkv.weight (n k|n k|x y) D
layers.mixer.conv.{query,key,value}.kernel layers.{L}.linear_attn.conv1d.weight (n k|n k|x y) 1 A
layers.mixer.gate.kernel                   layers.{L}.linear_attn.in_proj_z.weight   (x y) D
layers.mixer.write.kernel                  layers.{L}.linear_attn.in_proj_b.weight   x D
layers.mixer.decay.kernel                  layers.{L}.linear_attn.in_proj_a.weight   x D
layers.mixer.rate.scale                    layers.{L}.linear_attn.A_log              x
layers.mixer.rate.bias                     layers.{L}.linear_attn.dt_bias            x
layers.mixer.norm.scale                    layers.{L}.linear_attn.norm.weight        y
layers.mixer.out.kernel                    layers.{L}.linear_attn.out_proj.weight    D (x y)
"""
NAMES = decoder_names(attention=ATTENTION) + MIXER
MOE_NAMES = NAMES + EXPERT_NAMES + SHARED_NAMES

QWEN3_5_TEXT: Family = family(
    "Qwen3_5Text", qwen3_5_arch, NAMES, examples=("Qwen/Qwen3.5-0.8B-Base",)
)
QWEN3_5_MOE_TEXT: Family = family(
    "Qwen3_5MoeText", qwen3_5_moe_arch, MOE_NAMES, examples=("Qwen/Qwen3.5-35B-A3B",)
)
# The files of models that see as well, for texts alone.
BESIDE: dict[str, Any] = dict(
    renames=((r"^(model\.)?language_model\.", r"\1"),),
    ignored=(*IGNORED, r"^(model\.)?visual\.", r"^mtp\."),
)
QWEN3_5: Family = family(
    "Qwen3_5",
    lambda config: qwen3_5_arch(config.text_config),
    NAMES,
    **BESIDE,
    examples=("Qwen/Qwen3.5-0.8B-Base",),
)
QWEN3_5_MOE: Family = family(
    "Qwen3_5Moe",
    lambda config: qwen3_5_moe_arch(config.text_config),
    MOE_NAMES,
    **BESIDE,
    examples=("Qwen/Qwen3.5-35B-A3B",),
)
