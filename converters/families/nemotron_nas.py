"""DeciLM (Nemotron-NAS): Llama whose layers differ in size, or lack their attention or MLP.

All are read as large as the largest, so that one loop runs them: what was cut away is zero.
"""

from collections.abc import Mapping
from typing import Any

from converters.even import Even
from converters.families.decoder import arch, family
from converters.report import CheckpointError

CUT = ("replace_with_linear", "sparsify", "window_length", "num_sink_tokens")


def unfold(raw: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of Llama: the most key heads and the most MLP features of a layer."""
    blocks, count = raw.get("block_configs"), raw.get("num_hidden_layers")
    if not isinstance(blocks, list) or len(blocks) != count:
        raise CheckpointError(f"config.json: wanted block_configs of {count} layers")
    parts = [block.get(name) or {} for block in blocks for name in ("attention", "ffn")]
    if strange := sorted({name for part in parts for name in CUT if part.get(name)}):
        raise CheckpointError(f"config.json: block_configs with {strange} are not supported")
    attention, mlp = ([part for part in parts[i::2] if not part.get("no_op")] for i in (0, 1))
    if not attention or not mlp:
        raise CheckpointError("config.json: block_configs without any attention or any ffn")
    return {
        **raw,
        "model_type": "llama",
        "num_key_value_heads": raw["num_attention_heads"]
        // min(part["n_heads_in_group"] for part in attention),
        "intermediate_size": max(_features(part, raw["hidden_size"]) for part in mlp),
    }


def _features(part: Mapping[str, Any], width: int) -> int:
    if part.get("intermediate_size"):
        return part["intermediate_size"]
    return -(-int(2 * part["ffn_mult"] * width / 3) // 256) * 256


def even(source, config) -> Even:
    """The tensors of Llama; a layer may lack those of a part that is no operation alone."""
    heads, keys = config.num_attention_heads, config.num_key_value_heads
    width, features = config.hidden_size, config.head_dim
    query, key, up = (
        (heads * features, width),
        (keys * features, width),
        (config.intermediate_size, width),
    )
    attention: dict[str, tuple[int, ...]] = {
        "input_layernorm": (width,),
        "self_attn.q_proj": query,
        "self_attn.k_proj": key,
        "self_attn.v_proj": key,
        "self_attn.o_proj": query[::-1],
    }
    mlp: dict[str, tuple[int, ...]] = {
        "post_attention_layernorm": (width,),
        "mlp.gate_proj": up,
        "mlp.up_proj": up,
        "mlp.down_proj": up[::-1],
    }
    prefix = "model." if "model.norm.weight" in source.keys() else ""
    absent = {
        f"{prefix}layers.{i}.{name}.weight"
        for i, block in enumerate(config.block_configs)
        for part, names in (("attention", attention), ("ffn", mlp))
        for name in names
        if block[part].get("no_op")
    }
    like, repeated = f"{prefix}norm.weight", {"self_attn.k_proj", "self_attn.v_proj"}
    return Even(source, attention | mlp, absent, like, repeated, features)


NEMOTRON_NAS = family(
    "DeciLM",
    arch,
    derive=even,
    config="llama",
    unfold=unfold,
    examples=("nvidia/Llama-3_3-Nemotron-Super-49B-v1",),
)
