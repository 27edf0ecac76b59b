"""Qwen3.5 for texts: gated delta nets beside gated attention."""

from converters.families.decoder import IGNORED, arch, attention_names, decoder_names, family
from converters.family import Family
from converters.rotary import rotary
from jaxpool.nn.arch import Arch
from jaxpool.nn.records import DeltaNet


def qwen3_5_arch(config) -> Arch:
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

QWEN3_5_TEXT: Family = family(
    "Qwen3_5Text", qwen3_5_arch, NAMES, examples=("Qwen/Qwen3.5-0.8B-Base",)
)
# The files of models that see as well, for texts alone.
QWEN3_5: Family = family(
    "Qwen3_5",
    lambda config: qwen3_5_arch(config.text_config),
    NAMES,
    renames=((r"^(model\.)?language_model\.", r"\1"),),
    ignored=(*IGNORED, r"^(model\.)?visual\.", r"^mtp\."),
    examples=("Qwen/Qwen3.5-0.8B-Base",),
)
