"""The encoders of T5 and mT5, as sentence-t5 and GTR embed with them, and of UMT5."""

from dataclasses import replace

from converters.family import Family, activation, sizes
from jaxpool.nn.arch import Arch


def arch(config) -> Arch:
    """T5: pre-norm with RMS norms, no biases, unscaled scores, one relative bias for all layers."""
    return Arch(
        **sizes(config),
        mlp_dim=config.d_ff,
        norm="rms",
        norm_eps=config.layer_norm_epsilon,
        placement="pre",
        final_norm=True,
        relative_buckets=config.relative_attention_num_buckets,
        relative_distance=config.relative_attention_max_distance,
        attention_scale=1.0,
        qkv_bias=False,
        out_bias=False,
        gated=config.is_gated_act,
        activation=activation(config.dense_act_fn),
        mlp_bias=False,
        # Relative positions reach any distance; the length is that of the training.
        max_length=getattr(config, "n_positions", 512),
    )


def umt5_arch(config) -> Arch:
    """UMT5: every layer has a relative bias of its own."""
    return arch(config).replace(relative_layers=True)


BLOCK = "encoder.block.{L}.layer"
BIAS = "0.SelfAttention.relative_attention_bias.weight U N"
NAMES = f"""
embed.token.embedding         shared.weight                           V E
relative.embedding            encoder.block.0.layer.{BIAS}
layers.relative.embedding     {BLOCK}.{BIAS}
layers.attention.query.kernel {BLOCK}.0.SelfAttention.q.weight        (N H) D
layers.attention.key.kernel   {BLOCK}.0.SelfAttention.k.weight        (K H) D
layers.attention.value.kernel {BLOCK}.0.SelfAttention.v.weight        (K H) D
layers.attention.out.kernel   {BLOCK}.0.SelfAttention.o.weight        D (N H)
layers.attention_norm.scale   {BLOCK}.0.layer_norm.weight             D
layers.mlp.down.kernel        {BLOCK}.1.DenseReluDense.wo.weight      D F
layers.mlp_norm.scale         {BLOCK}.1.layer_norm.weight             D
norm.scale                    encoder.final_layer_norm.weight         D
"""
PLAIN = f"layers.mlp.up.kernel {BLOCK}.1.DenseReluDense.wi.weight F D"
GATED = f"""
layers.mlp.gate.kernel {BLOCK}.1.DenseReluDense.wi_0.weight F D
layers.mlp.up.kernel   {BLOCK}.1.DenseReluDense.wi_1.weight F D
"""


def names(config) -> str:
    """The table: version 1.1 gates the MLP, and names its products apart."""
    return NAMES + (GATED if config.is_gated_act else PLAIN)


T5 = Family(
    "T5",
    arch,
    names,
    ignored=(r"^decoder\.", r"^lm_head\.", r"^(encoder\.)?embed_tokens\."),
    pool="mean",
    examples=("sentence-transformers/sentence-t5-base", "sentence-transformers/gtr-t5-base"),
)
UMT5 = replace(T5, name="UMT5", arch=umt5_arch, examples=("google/umt5-base",))
