"""GLM, GLM-4 (0414), Helium and ERNIE 4.5: Llama that turns neighbouring features."""

from dataclasses import replace

from converters.families.decoder import (
    arch,
    attention_names,
    decoder_names,
    family,
    fused_mlp_names,
)
from converters.rotary import rotary
from jaxpool.nn.arch import Arch


def glm_arch(config, **switches) -> Arch:
    """Biases on query, key and value alone."""
    table = replace(rotary(config, partial=True), interleaved=True)
    return arch(config, rotary=(table,), out_bias=False, **switches)


def glm4_arch(config) -> Arch:
    """GLM-4: norms around the branches."""
    return glm_arch(config, placement="sandwich")


def helium_arch(config) -> Arch:
    """Helium: all features turn."""
    return arch(config, rotary=(replace(rotary(config), interleaved=True),), out_bias=False)


def ernie_arch(config) -> Arch:
    """ERNIE 4.5: one field for all biases."""
    bias = dict.fromkeys(("qkv_bias", "out_bias", "mlp_bias"), bool(config.use_bias))
    return arch(config, rotary=(replace(rotary(config), interleaved=True),), **bias)


NAMES = attention_names("layers.{L}.self_attn"), fused_mlp_names("layers.{L}.mlp")
GLM4_NAMES = decoder_names(
    *NAMES,
    norms={
        "attention_norm": "input_layernorm",
        "attention_post_norm": "post_self_attn_layernorm",
        "mlp_norm": "post_attention_layernorm",
        "mlp_post_norm": "post_mlp_layernorm",
    },
)

GLM = family("Glm", glm_arch, decoder_names(*NAMES), examples=("zai-org/glm-4-9b-hf",))
GLM4 = family("Glm4", glm4_arch, GLM4_NAMES, examples=("zai-org/GLM-4-9B-0414",))
HELIUM = family("Helium", helium_arch, examples=("kyutai/helium-1-2b",))
ERNIE4_5 = family("Ernie4_5", ernie_arch, examples=("baidu/ERNIE-4.5-0.3B-PT",))
