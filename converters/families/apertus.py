"""Apertus and Hunyuan: Llama with norms on each head, and a learned activation or late norms."""

from dataclasses import replace

from converters.families.decoder import (
    arch,
    attention_names,
    decoder_names,
    expert_names,
    family,
    mlp_names,
    shared_expert_names,
)
from converters.family import require
from converters.rotary import rotary
from jaxpool.nn.arch import Arch
from jaxpool.nn.records import Mixture


def apertus_arch(config) -> Arch:
    """Apertus: the curve of the activation (xIELU, arXiv 2411.13010) is learned in each layer."""
    require(config, hidden_act="xielu")
    return arch(config, gated=False, qk_norm="head", activation="xielu")


def hunyuan_arch(config) -> Arch:
    """Hunyuan: queries and keys are normalized after they have turned."""
    rope = dict(config.rope_parameters)
    alpha = rope.pop("alpha", None) if rope["rope_type"] == "dynamic" else None
    table = rotary(config, rope | {"rope_type": "default"} if alpha else rope)
    if alpha:  # a fixed stretch of the base, by a name that elsewhere depends on the length
        table = replace(table, theta=table.theta * alpha ** (table.dim / (table.dim - 2)))
    return arch(config, qk_norm="head", qk_norm_last=True, rotary=(table,))


def hunyuan_moe_arch(config) -> Arch:
    """Hunyuan with experts in every layer, and an MLP as wide as one beside them."""
    counts = dict(num_experts=config.num_experts, moe_topk=config.moe_topk)
    if lists := [name for name, count in counts.items() if isinstance(count, list)]:
        raise ValueError(f"config.json: {lists} must be numbers, found {counts}")
    return hunyuan_arch(config).replace(
        experts=config.num_experts,
        experts_per_token=config.moe_topk,
        norm_experts=True,
        mixture=Mixture(shared=config.intermediate_size),
    )


LAYER = "layers.{L}"
NAMES = decoder_names(
    mlp=mlp_names(f"{LAYER}.mlp", {"up": "up_proj", "down": "down_proj"})
    + f"layers.mlp.curve.above {LAYER}.mlp.act_fn.alpha_p 1\n"
    + f"layers.mlp.curve.below {LAYER}.mlp.act_fn.alpha_n 1\n",
    norms={"attention_norm": "attention_layernorm", "mlp_norm": "feedforward_layernorm"},
)
HUNYUAN_ATTENTION = (
    attention_names(f"{LAYER}.self_attn")
    .replace("q_norm", "query_layernorm")
    .replace("k_norm", "key_layernorm")
)
HUNYUAN_EXPERTS = expert_names(f"{LAYER}.mlp", "gate_proj", "up_proj", "down_proj").replace(
    "gate.weight", "gate.wg.weight"
) + shared_expert_names(f"{LAYER}.mlp.shared_mlp")

APERTUS = family(
    "Apertus",
    apertus_arch,
    NAMES,
    ignored=(r"^lm_head\.", r"\.act_fn\.(beta|eps)$"),
    examples=("swiss-ai/Apertus-8B-2509",),
)
HUNYUAN = family(
    "HunYuanDenseV1",
    hunyuan_arch,
    decoder_names(HUNYUAN_ATTENTION),
    examples=("tencent/Hunyuan-0.5B-Instruct",),
)
HUNYUAN_MOE = family(
    "HunYuanMoEV1",
    hunyuan_moe_arch,
    decoder_names(HUNYUAN_ATTENTION, HUNYUAN_EXPERTS),
    examples=("tencent/Hunyuan-A13B-Instruct",),
)
