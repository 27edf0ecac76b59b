"""Phi-3: Llama with fused projections."""

from converters.families.decoder import arch, decoder_names, family, fused_mlp_names
from converters.family import fused_attention

PHI3 = family(
    "Phi3",
    arch,
    decoder_names(
        fused_attention("layers.{L}.self_attn", "qkv_proj", "o_proj"),
        fused_mlp_names("layers.{L}.mlp"),
    ),
    examples=("microsoft/Phi-3.5-mini-instruct",),
)
