"""TeleChat: 2 with names of its own and each head's key and value in one tensor; 3 is Llama."""

import math
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from converters.families.decoder import arch as decoder_arch
from converters.families.decoder import decoder_names, family, mlp_names
from converters.family import dense
from converters.rotary import rotary
from jaxpool.nn.arch import Arch, Rotary


def arch(config) -> Arch:
    """Biases out of attention and of the MLP alone."""
    if getattr(config, "embed_layernorm", False):
        raise ValueError("config.json: embed_layernorm is not supported")
    return decoder_arch(config, rotary=(_table(config),), out_bias=True, down_bias=True)


def _table(config) -> Rotary:
    """The base grows once with what the training stretched the length by (dynamic NTK)."""
    table = rotary(config)
    stretch = config.max_position_embeddings / getattr(config, "base_seqlen", 8192)
    alpha = max(2 ** math.ceil(math.log2(stretch) + 1) - 1, 1)
    return replace(table, theta=table.theta * alpha ** (table.dim / (table.dim - 2)))


def unfold(raw: Mapping[str, Any]) -> dict[str, Any]:
    """TeleChat3's law of positions is YaRN with another factor on cosines and sines."""
    fields = dict(raw)
    for name in ("rope_scaling", "rope_parameters"):
        rope = raw.get(name) or {}
        if OWN in (rope.get("rope_type"), rope.get("type")):
            factor = 0.07 * math.log(rope["factor"]) + 1.0
            fields[name] = rope | {"type": "yarn", "rope_type": "yarn", "attention_factor": factor}
    return fields


OWN = "telechat3-yarn"
LAYER = "h.{L}"
TELECHAT2 = family(
    "TeleChat2",
    arch,
    decoder_names(
        attention=dense("layers.attention.query", f"{LAYER}.self_attention.query", "(N H) D")
        + f"layers.attention.{{key,value}}.kernel {LAYER}.self_attention.key_value.weight "
        + "(K [1|1] H) D\n"
        + dense("layers.attention.out", f"{LAYER}.self_attention.dense", "D (N H)"),
        mlp=mlp_names(f"{LAYER}.mlp"),
        embedding="word_embeddings",
        last_norm="ln_f",
        layer=LAYER,
    ),
    prefix="transformer.",
    config="llama",
    aliases={
        "ffn_hidden_size": "intermediate_size",
        "layer_norm_epsilon": "rms_norm_eps",
        "n_head": "num_attention_heads",
        "n_layer": "num_hidden_layers",
        "training_seqlen": "max_position_embeddings",
    },
    examples=("Tele-AI/TeleChat2-7B",),
)
TELECHAT3 = family(
    "TeleChat3",
    decoder_arch,
    config="llama",
    unfold=unfold,
    examples=("Tele-AI/TeleChat3-36B-Thinking",),
)
