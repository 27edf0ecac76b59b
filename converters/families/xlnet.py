"""XLNet as an encoder: attention to distances and parts of a text, both ways."""

from converters.family import Family, Head, activation, dense, norm, require, sizes
from converters.heads.classifiers import token_classifier
from jaxpool.heads.steps import Dense, Pool
from jaxpool.nn.arch import Arch
from jaxpool.nn.records import Relative

POOLS = {"last": "lasttoken", "first": "cls", "mean": "mean"}


def arch(config) -> Arch:
    """XLNet: post-norm; no table of positions, and distances of any size."""
    require(config, attn_type="bi", bi_data=False, clamp_len=-1)
    return Arch(
        **sizes(config),
        mlp_dim=config.d_inner,
        norm_eps=config.layer_norm_eps,
        mixer=Relative(),
        attention_layers=(False,) * config.n_layer,
        activation=activation(config.ff_activation),
        max_length=512,  # that of the training
    )


def _summary(config, arch: Arch) -> tuple:
    if config.summary_type not in POOLS or not config.summary_use_proj:
        raise ValueError(
            f"config.json: summary_type must be one of {sorted(POOLS)} with summary_use_proj, "
            f"found {config.summary_type} and {config.summary_use_proj}"
        )
    act = activation(config.summary_activation or "linear")
    hidden = Dense("summary", arch.dim, arch.dim, activation=act)
    return Pool((POOLS[config.summary_type],)), hidden, Dense("score", arch.dim, config.num_labels)


ATTENTION = "".join(
    f"layers.mixer.{ours} layer.{{L}}.rel_attn.{theirs} {axes}\n"
    for ours, theirs, axes in (
        ("query.kernel", "q", "D N H"),
        ("key.kernel", "k", "D N H"),
        ("value.kernel", "v", "D N H"),
        ("distance.kernel", "r", "D N H"),
        ("out.kernel", "o", "D N H"),
        ("content_query.bias", "r_w_bias", "N H"),
        ("distance_query.bias", "r_r_bias", "N H"),
        ("part_query.bias", "r_s_bias", "N H"),
        ("parts.embedding", "seg_embed", "A N H"),
    )
)
XLNET = Family(
    "XLNet",
    arch,
    "embed.token.embedding word_embedding.weight V E\n"
    + ATTENTION
    + norm("layers.attention_norm", "layer.{L}.rel_attn.layer_norm")
    + dense("layers.mlp.up", "layer.{L}.ff.layer_1", "F D")
    + dense("layers.mlp.down", "layer.{L}.ff.layer_2", "D F")
    + norm("layers.mlp_norm", "layer.{L}.ff.layer_norm"),
    prefix="transformer.",
    heads={
        "SequenceClassification": Head(
            "classify",
            _summary,
            dense("heads.summary", "sequence_summary.summary")
            + dense("heads.score", "logits_proj"),
        ),
        "TokenClassification": token_classifier(),
    },
    ignored=(r"(^|\.)mask_emb$", r"^lm_loss\."),
    pool="lasttoken",
    examples=("xlnet/xlnet-base-cased", "textattack/xlnet-base-cased-imdb"),
)
