"""GPT-2: pre-norm LayerNorm, learned positions, kernels stored inputs first."""

from converters.families.decoder import causal, score, token_score
from converters.family import Family, activation, norm, sizes
from jaxpool.nn.arch import Arch


def arch(config) -> Arch:
    """GPT-2's switches. Refuses scores scaled by the number of the layer."""
    if config.scale_attn_by_inverse_layer_idx:
        raise ValueError("config.json: scale_attn_by_inverse_layer_idx is not supported")
    return Arch(
        **sizes(config),
        mlp_dim=config.n_inner or 4 * config.n_embd,
        positions=config.n_positions,
        norm_eps=config.layer_norm_epsilon,
        placement="pre",
        final_norm=True,
        causal=causal(config),
        attention_scale=0.0 if config.scale_attn_weights else 1.0,
        activation=activation(config.activation_function),
        max_length=config.n_positions,
    )


LAYER = "h.{L}"
NAMES = (
    f"""
embed.token.embedding wte.weight V E
embed.position.embedding wpe.weight P E
layers.attention.{{query,key,value}}.kernel {LAYER}.attn.c_attn.weight D (N H|K H|K H)
layers.attention.{{query,key,value}}.bias {LAYER}.attn.c_attn.bias (N H|K H|K H)
layers.attention.out.kernel {LAYER}.attn.c_proj.weight (N H) D
layers.attention.out.bias {LAYER}.attn.c_proj.bias D
layers.mlp.up.kernel {LAYER}.mlp.c_fc.weight D F
layers.mlp.up.bias {LAYER}.mlp.c_fc.bias F
layers.mlp.down.kernel {LAYER}.mlp.c_proj.weight F D
layers.mlp.down.bias {LAYER}.mlp.c_proj.bias D
"""
    + norm("layers.attention_norm", f"{LAYER}.ln_1")
    + norm("layers.mlp_norm", f"{LAYER}.ln_2")
    + norm("norm", "ln_f")
)

GPT2 = Family(
    "GPT2",
    arch,
    NAMES,
    prefix="transformer.",
    heads={"SequenceClassification": score(), "TokenClassification": token_score("classifier")},
    ignored=(r"\.attn\.(masked_)?bias$", r"^lm_head\."),
    pool="lasttoken",
    examples=("nie3e/sentiment-polish-gpt2-small",),
)
