"""Ministral 3: Mistral whose queries grow with their position, and its embedding models."""

from dataclasses import replace

from converters.families.bidirectional import POOLS
from converters.families.decoder import arch, causal, family
from converters.rotary import rotary
from jaxpool.nn.arch import Arch


def ministral3_arch(config) -> Arch:
    """Ministral 3: the growth is a field of the rotary parameters."""
    rope = config.rope_parameters
    growth = float(rope.get("llama_4_scaling_beta") or 0.0)
    length = rope.get("original_max_position_embeddings")
    if growth and not length:
        raise ValueError(
            "config.json: rope_parameters.llama_4_scaling_beta needs "
            "original_max_position_embeddings, found none"
        )
    table = rotary(config)
    length = length or table.original_length
    return arch(config, rotary=(replace(table, growth=growth, original_length=length),))


def pool(config) -> str:
    """The pooling that a model names; else the mean where it attends both ways."""
    named = POOLS.get(getattr(config, "pooling", None) or "")
    return named or ("lasttoken" if causal(config) else "mean")


MINISTRAL3 = family(
    "Ministral3", ministral3_arch, pool=pool, examples=("mistralai/Ministral-3-8B-Base-2512",)
)
MINISTRAL3_BIDIRECTIONAL = replace(
    MINISTRAL3,
    name="Ministral3Bidirectional",
    config="ministral3",
    examples=("nvidia/Nemotron-3-Embed-8B",),
)
