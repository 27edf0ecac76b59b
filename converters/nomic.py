"""Nomic BERT: BERT with rotary positions and SwiGLU, nothing biased but the norms."""

from converters import bert
from converters.family import Family, activation, dense, fused_attention, norm
from converters.heads import bert_heads
from converters.rotary import rotary
from jaxpool.arch import Arch

GATED = {"swiglu": "silu", "geglu": "gelu"}


def arch(config) -> Arch:
    """Published files spell a gated MLP in `activation_function`, transformers always gates."""
    act = getattr(config, "activation_function", "")
    bias = getattr(config, "qkv_proj_bias", False)
    return bert.rotary_arch(config, rotary(config)).replace(
        gated=act in GATED or not act,
        activation=GATED.get(act) or activation(act or config.hidden_act),
        qkv_bias=bias,
        out_bias=bias,
        mlp_bias=getattr(config, "mlp_fc1_bias", False),
        down_bias=getattr(config, "mlp_fc2_bias", False),
        max_length=getattr(config, "max_trained_positions", config.max_position_embeddings),
    )


LAYER = "encoder.layers.{L}"
EMBEDDINGS = bert.EMBEDDINGS.replace("embeddings.LayerNorm", "emb_ln")

NOMIC = Family(
    "NomicBert",
    arch,
    EMBEDDINGS
    + fused_attention(f"{LAYER}.attn", "Wqkv", "out_proj")
    + norm("layers.attention_norm", f"{LAYER}.norm1")
    + dense("layers.mlp.up", f"{LAYER}.mlp.fc11", "F D")
    + dense("layers.mlp.gate", f"{LAYER}.mlp.fc12", "F D")
    + dense("layers.mlp.down", f"{LAYER}.mlp.fc2", "D F")
    + norm("layers.mlp_norm", f"{LAYER}.norm2"),
    prefix="nomic_bert.",
    heads=bert_heads("nomic_bert.", normed="layer_norm"),
    ignored=(*bert.BUFFERS, r"inv_freq$", r"^cls\."),
    aliases={
        "n_embd": "hidden_size",
        "n_head": "num_attention_heads",
        "n_inner": "intermediate_size",
        "n_layer": "num_hidden_layers",
        "n_positions": "max_position_embeddings",
        "layer_norm_epsilon": "layer_norm_eps",
        "rotary_emb_base": "rope_theta",
    },
    pool="mean",
    examples=("nomic-ai/nomic-embed-text-v1.5",),
)
