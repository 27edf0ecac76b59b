"""BLOOM and MPT: distances weaken the scores of a decoder (ALiBi)."""

from converters.families.decoder import (
    OLD_HEADS,
    WIDE,
    arch,
    decoder_names,
    family,
    fused_names,
    mlp_names,
)
from converters.family import fused_attention, norm, require
from jaxpool.nn.arch import Arch

SHARED: dict = dict(norm="layer", rotary=(), alibi=True, gated=False)


def bloom_arch(config) -> Arch:
    """BLOOM: biases, a norm on the embeddings; distances of any size."""
    require(config, apply_residual_connection_post_layernorm=False)
    return arch(
        config,
        **SHARED,
        mlp_dim=4 * config.hidden_size,
        embed_norm=True,
        activation="gelu_tanh",
        **dict.fromkeys(("qkv_bias", "out_bias", "mlp_bias"), True),
        max_length=getattr(config, "seq_length", 2048),
    )


def mpt_arch(config) -> Arch:
    """MPT: no biases at all. Refuses slopes that are not BLOOM's."""
    facts, heads = config.attn_config, config.n_heads
    require(facts, alibi_bias_max=8, clip_qkv=None, qk_ln=False, prefix_lm=False)
    if heads & (heads - 1):
        raise ValueError(f"config.json: n_heads must be a power of two for MPT, found {heads}")
    return arch(
        config,
        **SHARED,
        mlp_dim=4 * config.d_model,
        norm_bias=False,
        activation="gelu",
        attention_scale=facts.softmax_scale or 0.0,
        max_length=config.max_seq_len,
    )


BLOCK = "h.{L}.self_attention"
BLOOM_NAMES = decoder_names(
    fused_names(f"{BLOCK}.query_key_value", f"{BLOCK}.dense"),
    mlp_names("h.{L}.mlp", WIDE),
    embedding="word_embeddings",
    last_norm="ln_f",
    layer="h.{L}",
) + norm("embed.norm", "word_embeddings_layernorm", "E")
MPT_NAMES = decoder_names(
    fused_attention("blocks.{L}.attn", "Wqkv", "out_proj"),
    mlp_names("blocks.{L}.ffn", {"up": "up_proj", "down": "down_proj"}),
    {"attention_norm": "norm_1", "mlp_norm": "norm_2"},
    "wte",
    "norm_f",
    "blocks.{L}",
)
OLD = dict(prefix="transformer.", heads=OLD_HEADS)

BLOOM = family("Bloom", bloom_arch, BLOOM_NAMES, **OLD, examples=("bigscience/bloomz-560m",))
MPT = family("Mpt", mpt_arch, MPT_NAMES, **OLD, examples=("mosaicml/mpt-7b",))
