"""T5, mT5 and UMT5: encoders, which sentence-t5 and GTR embed with, and classifiers."""

from dataclasses import replace

from converters.families import bart
from converters.family import Family, activation, sizes
from converters.heads.classifiers import token_classifier
from jaxpool.nn.arch import Arch


def arch(config) -> Arch:
    """T5: pre-norm with RMS norms, no biases, unscaled scores, one relative bias for all layers."""
    encoder = Arch(
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
    if not any("SequenceClassification" in name for name in config.architectures or ()):
        return encoder
    facts = dict(layers=config.num_decoder_layers, start=config.decoder_start_token_id)
    return encoder.replace(decoder=encoder.replace(causal=True, **facts))


def umt5_arch(config) -> Arch:
    """UMT5: every layer has a relative bias of its own."""
    made = arch(config).replace(relative_layers=True)
    return made.replace(decoder=made.decoder and made.decoder.replace(relative_layers=True))


def stack(side: str, path: str, gated: bool) -> str:
    """The table of an encoder or decoder, below a path of ours ("decoder." or none)."""
    block, last = f"{side}.block.{{L}}.layer", 2 if side == "decoder" else 1
    parts = {"attention": "0.SelfAttention", "cross": "1.EncDecAttention"}
    bias = "layer.0.SelfAttention.relative_attention_bias.weight U N"
    axes = {"query": "q (N H) D", "key": "k (K H) D", "value": "v (K H) D", "out": "o D (N H)"}
    mlp = {"gate": "wi_0", "up": "wi_1"} if gated else {"up": "wi"}
    rows = [
        f"relative.embedding {side}.block.0.{bias}",
        f"layers.relative.embedding {side}.block.{{L}}.{bias}",
        *(
            f"layers.{part}.{ours}.kernel {block}.{name}.{line.replace(' ', '.weight ', 1)}"
            for part, name in parts.items()
            for ours, line in axes.items()
        ),
        f"layers.attention_norm.scale {block}.0.layer_norm.weight D",
        f"layers.cross_norm.scale {block}.1.layer_norm.weight D",
        *(
            f"layers.mlp.{ours}.kernel {block}.{last}.DenseReluDense.{name}.weight F D"
            for ours, name in mlp.items()
        ),
        f"layers.mlp.down.kernel {block}.{last}.DenseReluDense.wo.weight D F",
        f"layers.mlp_norm.scale {block}.{last}.layer_norm.weight D",
        f"norm.scale {side}.final_layer_norm.weight D",
    ]
    return "".join(f"{path}{row}\n" for row in rows)


def names(config) -> str:
    """The table: version 1.1 gates the MLP, and names its products apart."""
    both = (("encoder", ""), ("decoder", "decoder."))
    tokens = "embed.token.embedding shared.weight V E\n"
    return tokens + "".join(stack(*side, config.is_gated_act) for side in both)


T5 = Family(
    "T5",
    arch,
    names,
    prefix="transformer.",
    heads={"SequenceClassification": bart.HEAD, "TokenClassification": token_classifier()},
    ignored=(r"^(transformer\.)?decoder\.", r"^lm_head\.", r"(^|\.)embed_tokens\."),
    pool="mean",
    examples=("sentence-transformers/sentence-t5-base", "sentence-transformers/gtr-t5-base"),
)
UMT5 = replace(T5, name="UMT5", arch=umt5_arch, examples=("google/umt5-base",))
