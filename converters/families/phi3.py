"""Phi-3: Llama with fused projections."""

from collections.abc import Mapping
from typing import Any

from converters.families.decoder import arch, decoder_names, family, fused_mlp_names
from converters.family import fused_attention
from converters.rotary import rotary
from jaxpool.nn.arch import Arch


def phi3_arch(config) -> Arch:
    """Phi-3: some checkpoints (Phi-4-mini) turn a part of the features alone."""
    return arch(config, rotary=(rotary(config, partial=True),))


def unfold(raw: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of a config.json with the present name of its rule for long texts."""
    rope = raw.get("rope_scaling") or {}
    if rope.get("type", rope.get("rope_type")) not in ("su", "yarn"):
        return dict(raw)
    return dict(raw) | {"rope_scaling": {**rope, "type": "longrope", "rope_type": "longrope"}}


PHI3 = family(
    "Phi3",
    phi3_arch,
    decoder_names(
        fused_attention("layers.{L}.self_attn", "qkv_proj", "o_proj"),
        fused_mlp_names("layers.{L}.mlp"),
    ),
    unfold=unfold,
    examples=("microsoft/Phi-3.5-mini-instruct",),
)
