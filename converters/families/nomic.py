"""Nomic BERT: rotary; SwiGLU (v1, v1.5), or experts in every second layer (v2-moe)."""

from converters.families import bert
from converters.family import Family, activation, dense, fused_attention, norm
from converters.heads.classifiers import bert_heads
from converters.rotary import reach, rotary
from jaxpool.nn.arch import Arch

GATED = {"swiglu": "silu", "geglu": "gelu"}


def arch(config) -> Arch:
    """Published files spell the MLP in `activation_function`; transformers always gates."""
    act = getattr(config, "activation_function", "")
    bias = getattr(config, "qkv_proj_bias", False)
    # Beyond the trained length, published files stretch by a factor that is null unless asked for.
    factor = getattr(config, "rotary_scaling_factor", None)
    law = {"rope_type": "dynamic", "factor": factor} if factor else {}
    return bert.rotary_arch(config, rotary(config, config.rope_parameters | law)).replace(
        gated=_gated(config),
        activation=GATED.get(act) or activation(act or config.hidden_act),
        qkv_bias=bias,
        out_bias=bias,
        mlp_bias=getattr(config, "mlp_fc1_bias", False),
        down_bias=getattr(config, "mlp_fc2_bias", False),
        max_length=getattr(config, "n_positions", reach(config)) if factor else reach(config),
        **_experts(config),
    )


def _gated(config) -> bool:
    act = getattr(config, "activation_function", "")
    return act in GATED or not act


def _experts(config) -> dict:
    every = getattr(config, "moe_every_n_layers", 0) or 0
    if not every:
        return {}
    return {
        "experts": config.num_experts,
        "experts_per_token": config.moe_top_k,
        "expert_layers": tuple(i % every == 1 for i in range(config.num_hidden_layers)),
    }


LAYER = "encoder.layers.{L}"
EMBEDDINGS = bert.EMBEDDINGS.replace("embeddings.LayerNorm", "emb_ln")
NAMES = (
    EMBEDDINGS
    + fused_attention(f"{LAYER}.attn", "Wqkv", "out_proj")
    + norm("layers.attention_norm", f"{LAYER}.norm1")
    + dense("layers.mlp.down", f"{LAYER}.mlp.fc2", "D F")
    + norm("layers.mlp_norm", f"{LAYER}.norm2")
    + f"""
layers.experts.router.kernel {LAYER}.mlp.router.layer.weight   X D
layers.experts.up.kernel     {LAYER}.mlp.experts.mlp.w1        (X W) D
layers.experts.down.kernel   {LAYER}.mlp.experts.mlp.w2        (X W) D
layers.experts.down.bias     {LAYER}.mlp.experts.bias          D
"""
)


def names(config) -> str:
    """The first product of the MLP is one tensor, or two."""
    if not _gated(config):
        return NAMES + dense("layers.mlp.up", f"{LAYER}.mlp.fc1", "F D")
    gate = dense("layers.mlp.gate", f"{LAYER}.mlp.fc12", "F D")
    return NAMES + dense("layers.mlp.up", f"{LAYER}.mlp.fc11", "F D") + gate


NOMIC = Family(
    "NomicBert",
    arch,
    names,
    prefix="nomic_bert.",
    heads=bert_heads("nomic_bert.", normed="layer_norm"),
    ignored=(*bert.BUFFERS, r"inv_freq$", r"^cls\."),
    aliases={
        "n_embd": "hidden_size",
        "n_head": "num_attention_heads",
        "n_inner": "intermediate_size",
        "n_layer": "num_hidden_layers",
        "layer_norm_epsilon": "layer_norm_eps",
        "max_trained_positions": "max_position_embeddings",
        "rotary_emb_base": "rope_theta",
    },
    pool="mean",
    examples=("nomic-ai/nomic-embed-text-v1.5", "nomic-ai/nomic-embed-text-v2-moe"),
)
