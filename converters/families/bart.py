"""BART and mBART: encoder-decoders whose decoder reads the same text, one token behind."""

from dataclasses import replace

from converters.family import Family, Head, activation, attention, dense, norm, sizes
from jaxpool.heads.pools import PoolTo
from jaxpool.heads.steps import Dense
from jaxpool.nn.arch import Arch


def arch(config, start: int | None = None) -> Arch:
    """BART: post-norm, positions from row 2. start: the decoder's first token (`Arch.start`)."""
    encoder = Arch(
        **sizes(config),
        mlp_dim=config.encoder_ffn_dim,
        positions=config.max_position_embeddings + 2,
        position_offset=2,
        embed_scale=config.d_model**0.5 if config.scale_embedding else 1.0,
        embed_norm=True,
        norm_eps=1e-5,
        activation=activation(config.activation_function),
        max_length=config.max_position_embeddings,
    )
    heads = config.decoder_attention_heads
    decoder = encoder.replace(
        layers=config.decoder_layers,
        **{"heads": heads, "kv_heads": heads, "head_dim": config.d_model // heads},
        mlp_dim=config.decoder_ffn_dim,
        causal=True,
        start=config.decoder_start_token_id if start is None else start,
    )
    return encoder.replace(decoder=decoder)


def pre_norm_arch(config) -> Arch:
    """mBART: norms before the branches and at the end; the last token, a language, comes first."""
    made, pre = arch(config, start=-1), {"placement": "pre", "final_norm": True}
    return made.replace(**pre, decoder=made.decoder and made.decoder.replace(**pre))


def stack(side: str, path: str) -> str:
    """The table of an encoder or decoder, below a path of ours ("decoder." or none)."""
    layer = f"{side}.layers.{{L}}"
    names = ("q_proj", "k_proj", "v_proj", "out_proj")
    cross = attention(layer, *(f"encoder_attn.{name}" for name in names))
    rows = (
        f"embed.position.embedding {side}.embed_positions.weight P E\n"
        + norm("embed.norm", f"{side}.layernorm_embedding", "E")
        + attention(layer, *(f"self_attn.{name}" for name in names))
        + norm("layers.attention_norm", f"{layer}.self_attn_layer_norm")
        + cross.replace("layers.attention.", "layers.cross.")
        + norm("layers.cross_norm", f"{layer}.encoder_attn_layer_norm")
        + dense("layers.mlp.up", f"{layer}.fc1", "F D")
        + dense("layers.mlp.down", f"{layer}.fc2", "D F")
        + norm("layers.mlp_norm", f"{layer}.final_layer_norm")
        + norm("norm", f"{side}.layer_norm")
    )
    return "".join(path + row for row in rows.splitlines(keepends=True))


def classifier(config, arch: Arch) -> tuple:
    """The decoder's state at the last end of text, a hidden layer, the classes."""
    hidden = Dense("pooler", arch.dim, arch.dim, activation="tanh")
    last = Dense("classifier", arch.dim, config.num_labels)
    return PoolTo(("lasttoken",), config.eos_token_id), hidden, last


TOKENS = "embed.token.embedding shared.weight=decoder.embed_tokens.weight V E\n"
NAMES = TOKENS + stack("encoder", "") + stack("decoder", "decoder.")
HEAD = Head(
    "classify",
    classifier,
    dense("heads.pooler", "classification_head.dense")
    + dense("heads.classifier", "classification_head.out_proj"),
)
COPIES = (r"\b(en|de)coder\.embed_tokens\.weight$", r"^final_logits_bias$", r"^lm_head\.")

BART = Family(
    "Bart",
    arch,
    NAMES,
    prefix="model.",
    heads={"SequenceClassification": HEAD},
    ignored=COPIES,
    pool="lasttoken",
    examples=("facebook/bart-large-mnli",),
)
MBART = replace(BART, name="MBart", arch=pre_norm_arch, examples=("facebook/mbart-large-50",))
