"""Falcon: few key heads, and an MLP that reads what attention reads."""

from converters.families.decoder import (
    BOTH_NORMS,
    OLD_HEADS,
    WIDE,
    arch,
    decoder_names,
    family,
    fused_names,
    mlp_names,
)
from converters.family import activation, require
from jaxpool.nn.arch import Arch


def falcon_arch(config) -> Arch:
    """Falcon: one norm for both branches, or one each; few key heads."""
    require(config, alibi=False)
    several = config.new_decoder_architecture or not config.multi_query
    return arch(
        config,
        kv_heads=config.num_kv_heads if several else 1,
        mlp_dim=config.ffn_hidden_size,
        norm="layer",
        parallel=config.parallel_attn,
        gated=False,
        activation=activation(config.activation),
        **dict.fromkeys(("qkv_bias", "out_bias", "mlp_bias"), bool(config.bias)),
    )


def falcon_names(config) -> str:
    """The table: the norms have names of their own where there are two beside each other."""
    norms = {"attention_norm": "input_layernorm", "mlp_norm": "post_attention_layernorm"}
    if config.parallel_attn:
        count = config.num_ln_in_parallel_attn or 1 + bool(config.new_decoder_architecture)
        both = {"attention_norm": "ln_attn", "mlp_norm": "ln_mlp"}
        norms = both if count == 2 else {BOTH_NORMS: "input_layernorm"}
    block, mlp = "h.{L}.self_attention", mlp_names("h.{L}.mlp", WIDE)
    qkv = fused_names(f"{block}.query_key_value", f"{block}.dense")
    return decoder_names(qkv, mlp, norms, "word_embeddings", "ln_f", "h.{L}")


FALCON = family(
    "Falcon",
    falcon_arch,
    falcon_names,
    prefix="transformer.",
    heads=OLD_HEADS,
    examples=("tiiuae/falcon-7b",),
)
