"""DeepSeek-V3: latent heads, and experts that are chosen by groups; causal and bidirectional."""

from dataclasses import replace

from converters.families.decoder import arch, decoder_names, expert_names, family, mlp_names
from converters.family import Family, dense, norm
from converters.rotary import rotary, yarn_scale
from jaxpool.nn.arch import Arch
from jaxpool.nn.low_rank import LatentHeads
from jaxpool.nn.records import Mixture


def deepseek_arch(config) -> Arch:
    """Some of the first layers have no experts; scores grow with the stretch of the positions."""
    layers, plain = config.num_hidden_layers, config.first_k_dense_replace
    features = config.qk_nope_head_dim + config.qk_rope_head_dim
    return arch(
        config,
        kv_heads=config.num_attention_heads,
        head_dim=features,
        rotary=(replace(rotary(config), interleaved=bool(config.rope_interleave)),),
        attention_scale=features**-0.5 * yarn_scale(config.rope_parameters) ** 2,
        latent=LatentHeads(
            rank=config.kv_lora_rank,
            query_rank=config.q_lora_rank or 0,
            turned=config.qk_rope_head_dim,
            value_dim=config.v_head_dim,
            bias=config.attention_bias,
        ),
        experts=config.n_routed_experts if plain < layers else 0,
        experts_per_token=config.num_experts_per_tok,
        expert_dim=config.moe_intermediate_size,
        expert_layers=tuple(i >= plain for i in range(layers)),
        norm_experts=config.norm_topk_prob,
        mixture=Mixture(
            sigmoid=True,
            groups=config.n_group,
            best_groups=config.topk_group,
            scale=config.routed_scaling_factor,
            shared=config.moe_intermediate_size * config.n_shared_experts,
        ),
    )


LAYER = "layers.{L}.self_attn"
ATTENTION = (
    dense("layers.attention.{low,key_turned}", f"{LAYER}.kv_a_proj_with_mqa", "(i|o) D")
    + norm("layers.attention.low_norm", f"{LAYER}.kv_a_layernorm", "i")
    + dense("layers.attention.{key,value}", f"{LAYER}.kv_b_proj", "(N [z|y]) i")
    + dense("layers.attention.query_low", f"{LAYER}.q_a_proj", "g D")
    + norm("layers.attention.query_low_norm", f"{LAYER}.q_a_layernorm", "g")
    + dense("layers.attention.out", f"{LAYER}.o_proj", "D (N y)")
)
EXPERTS = expert_names("layers.{L}.mlp", "gate_proj", "up_proj", "down_proj") + mlp_names(
    "layers.{L}.mlp.shared_experts"
).replace("layers.mlp.", "layers.experts.shared.").replace(" F D", " e D").replace(" D F", " D e")
CORRECTION = "layers.experts.correction.bias layers.{L}.mlp.gate.e_score_correction_bias X\n"


def deepseek_names(config) -> str:
    """Queries are made of the token or of a few features of it."""
    asked, inputs = ("q_b_proj", "g") if config.q_lora_rank else ("q_proj", "D")
    query = dense(
        "layers.attention.{query,query_turned}", f"{LAYER}.{asked}", f"(N [z|o]) {inputs}"
    )
    return decoder_names(ATTENTION + query) + EXPERTS + CORRECTION


DEEPSEEK_V3: Family = family(
    "DeepseekV3", deepseek_arch, deepseek_names, examples=("deepseek-ai/DeepSeek-V3-0324",)
)
DEEPSEEK_V3_BIDIRECTIONAL: Family = replace(
    DEEPSEEK_V3,
    name="DeepseekV3Bidirectional",
    pool="mean",
    config="deepseek_v3",
    examples=("ai-sage/Giga-Embeddings-instruct-10B-A1.8B-0826",),
)
