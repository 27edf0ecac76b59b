"""What decoders with DeepSeek's parts share: latent heads, experts beside an MLP, their names."""

from dataclasses import replace
from typing import Any

from converters.families.decoder import arch, decoder_names, expert_names, shared_expert_names
from converters.family import dense, norm
from converters.rotary import rotary, yarn_scale
from jaxpool.nn.arch import Arch, Rotary
from jaxpool.nn.low_rank import LatentHeads
from jaxpool.nn.records import Mixture


def latent_heads(config, **switches) -> Arch:
    """Scores grow with the stretch of the positions."""
    features = config.qk_nope_head_dim + config.qk_rope_head_dim
    latent = LatentHeads(
        rank=config.kv_lora_rank,
        query_rank=config.q_lora_rank or 0,
        turned=config.qk_rope_head_dim,
        value_dim=config.v_head_dim,
        bias=config.attention_bias,
    )
    facts = dict(kv_heads=config.num_attention_heads, head_dim=features, latent=latent)
    scale = features**-0.5 * yarn_scale(config.rope_parameters) ** 2
    return arch(config, attention_scale=scale, **(facts | switches))


def in_pairs(config) -> tuple[Rotary]:
    """Neighbouring features turn together where a field says so."""
    return (replace(rotary(config), interleaved=bool(config.rope_interleave)),)


def experts(config, sparse: tuple[bool, ...], **facts) -> dict[str, Any]:
    """The switches of experts in the layers that are `sparse`; facts: those of the `Mixture`."""
    return dict(
        experts=config.n_routed_experts if any(sparse) else 0,
        experts_per_token=config.num_experts_per_tok,
        expert_dim=config.moe_intermediate_size,
        expert_layers=sparse,
        mixture=Mixture(
            scale=config.routed_scaling_factor,
            shared=config.moe_intermediate_size * (config.n_shared_experts or 0),
            **facts,
        ),
    )


def corrected(config, sparse: tuple[bool, ...] = ()) -> dict[str, Any]:
    """Experts chosen by groups and corrected scores, not in some of the first layers."""
    plain, layers = getattr(config, "first_k_dense_replace", 0), range(config.num_hidden_layers)
    groups = dict(groups=config.n_group, best_groups=config.topk_group)
    sparse = sparse or tuple(i >= plain for i in layers)
    made = experts(config, sparse, sigmoid=True, corrected=True, **groups)
    return made | {"norm_experts": config.norm_topk_prob}


LAYER = "layers.{L}.self_attn"
ATTENTION = (
    dense("layers.attention.{low,key_turned}", f"{LAYER}.kv_a_proj_with_mqa", "(i|o) D")
    + norm("layers.attention.low_norm", f"{LAYER}.kv_a_layernorm", "i")
    + dense("layers.attention.{key,value}", f"{LAYER}.kv_b_proj", "(N [z|y]) i")
    + dense("layers.attention.query_low", f"{LAYER}.q_a_proj", "g D")
    + norm("layers.attention.query_low_norm", f"{LAYER}.q_a_layernorm", "g")
    + dense("layers.attention.out", f"{LAYER}.o_proj", "D (N y)")
)
EXPERTS = expert_names("layers.{L}.mlp", "gate_proj", "up_proj", "down_proj") + shared_expert_names(
    "layers.{L}.mlp.shared_experts"
)
CORRECTION = "layers.experts.correction.bias layers.{L}.mlp.gate.e_score_correction_bias X\n"


def latent_names(config) -> str:
    """Queries are made of the token or of a few features of it."""
    asked, inputs = ("q_b_proj", "g") if config.q_lora_rank else ("q_proj", "D")
    query = dense(
        "layers.attention.{query,query_turned}", f"{LAYER}.{asked}", f"(N [z|o]) {inputs}"
    )
    return decoder_names(ATTENTION + query)
