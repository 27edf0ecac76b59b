"""OPT and BioGPT: decoders with learned positions that start at row 2."""

from converters.families.decoder import IGNORED, OLD_HEADS, arch, family, score
from converters.family import activation, attention, dense, norm, require
from jaxpool.nn.arch import Arch


def switches(config, **changes) -> Arch:
    """LayerNorms of their default epsilon, biases, no gate."""
    facts = dict(
        norm="layer",
        norm_eps=1e-5,
        rotary=(),
        positions=config.max_position_embeddings + 2,
        position_offset=2,
        gated=False,
        **dict.fromkeys(("qkv_bias", "out_bias", "mlp_bias"), True),
        max_length=config.max_position_embeddings,
    )
    return arch(config, **(facts | changes))


def opt_arch(config) -> Arch:
    """OPT: norms before the branches, or after them (350M)."""
    wanted = dict(word_embed_proj_dim=config.hidden_size, layer_norm_elementwise_affine=True)
    require(config, **wanted)
    before = config.do_layer_norm_before
    return switches(
        config,
        mlp_dim=config.ffn_dim,
        placement="pre" if before else "post",
        final_norm=before and not config._remove_final_layer_norm,
        activation=activation(config.activation_function),
        **dict.fromkeys(("qkv_bias", "out_bias", "mlp_bias"), config.enable_bias),
    )


def biogpt_arch(config) -> Arch:
    """BioGPT: embeddings grow with the square root of their size."""
    scale = config.hidden_size**0.5 if config.scale_embedding else 1.0
    return switches(config, embed_scale=scale)


def names(side: str, last_norm: str) -> str:
    """The table, below a name on disk."""
    layer = f"{side}layers.{{L}}"
    return (
        f"embed.token.embedding {side}embed_tokens.weight V E\n"
        f"embed.position.embedding {side}embed_positions.weight P E\n"
        + attention(f"{layer}.self_attn", "q_proj", "k_proj", "v_proj", "out_proj")
        + norm("layers.attention_norm", f"{layer}.self_attn_layer_norm")
        + dense("layers.mlp.up", f"{layer}.fc1", "F D")
        + dense("layers.mlp.down", f"{layer}.fc2", "D F")
        + norm("layers.mlp_norm", f"{layer}.final_layer_norm")
        + norm("norm", f"{side}{last_norm}")
    )


OPT = family(
    "OPT",
    opt_arch,
    names("decoder.", "final_layer_norm"),
    heads={"SequenceClassification": score()},
    examples=("facebook/opt-125m", "facebook/opt-1.3b"),
)
BIOGPT = family(
    "BioGpt",
    biogpt_arch,
    names("", "layer_norm"),
    prefix="biogpt.",
    heads=OLD_HEADS,
    ignored=(*IGNORED, r"^output_projection\."),
    examples=("microsoft/biogpt",),
)
