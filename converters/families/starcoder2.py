"""StarCoder2: Llama with LayerNorm, biases everywhere and GPT-2's MLP."""

from converters.families.decoder import arch as decoder_arch
from converters.families.decoder import decoder_names, family, mlp_names
from jaxpool.nn.arch import Arch


def arch(config) -> Arch:
    """One field for all biases."""
    bias = config.use_bias
    return decoder_arch(
        config, norm="layer", gated=False, qkv_bias=bias, out_bias=bias, mlp_bias=bias
    )


STARCODER2 = family(
    "Starcoder2",
    arch,
    decoder_names(mlp=mlp_names("layers.{L}.mlp", {"up": "c_fc", "down": "c_proj"})),
    examples=("bigcode/starcoder2-3b",),
)
