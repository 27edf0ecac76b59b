"""Nemotron, Persimmon and Jais 2: LayerNorm, squared ReLU, no gate."""

from converters.families.decoder import (
    WIDE,
    arch,
    decoder_names,
    family,
    fused_names,
    mlp_names,
)
from converters.family import norm
from converters.rotary import rotary
from jaxpool.nn.arch import Arch


def nemotron_arch(config) -> Arch:
    """Nemotron: norms are stored less one."""
    tables = (rotary(config, partial=True),)
    return arch(config, norm="layer", norm_offset=1.0, rotary=tables, gated=False)


def jais2_arch(config) -> Arch:
    """Jais 2: Llama but for norms and the MLP."""
    return arch(config, norm="layer", gated=False)


def persimmon_arch(config) -> Arch:
    """Persimmon: biases, and norms that all heads share."""
    return arch(
        config,
        norm="layer",
        qk_norm="head_layer" if config.qk_layernorm else "none",
        rotary=(rotary(config, partial=True),),
        gated=False,
        **dict.fromkeys(("qkv_bias", "out_bias", "mlp_bias"), True),
    )


BLOCK = "layers.{L}.self_attn"
NEMOTRON_NAMES = decoder_names(
    mlp=mlp_names("layers.{L}.mlp", {"up": "up_proj", "down": "down_proj"})
)
PERSIMMON_NAMES = decoder_names(
    fused_names(f"{BLOCK}.query_key_value", f"{BLOCK}.dense")
    + norm("layers.attention.query_norm", f"{BLOCK}.q_layernorm", "H")
    + norm("layers.attention.key_norm", f"{BLOCK}.k_layernorm", "H"),
    mlp_names("layers.{L}.mlp", WIDE),
    last_norm="final_layernorm",
)

JAIS2 = family("Jais2", jais2_arch, NEMOTRON_NAMES, examples=("inceptionai/Jais-2-8B-Chat",))
NEMOTRON = family("Nemotron", nemotron_arch, NEMOTRON_NAMES, examples=("nvidia/Minitron-4B-Base",))
PERSIMMON = family(
    "Persimmon", persimmon_arch, PERSIMMON_NAMES, examples=("adept/persimmon-8b-base",)
)
