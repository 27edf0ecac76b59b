"""BERT and the encoders that differ from it in names and heads alone."""

from converters.family import Family, Head, activation, dense, norm
from jaxpool.arch import Arch
from jaxpool.heads import Dense, Norm, Pool

LEGACY = ((r"LayerNorm\.gamma$", "LayerNorm.weight"), (r"LayerNorm\.beta$", "LayerNorm.bias"))
BUFFERS = (r"position_ids$", r"token_type_ids$")


def arch(config) -> Arch:
    """BERT: post-norm, learned positions, exact GELU."""
    return Arch(
        vocab=config.vocab_size,
        layers=config.num_hidden_layers,
        dim=config.hidden_size,
        heads=config.num_attention_heads,
        kv_heads=config.num_attention_heads,
        head_dim=config.hidden_size // config.num_attention_heads,
        mlp_dim=config.intermediate_size,
        token_types=config.type_vocab_size,
        positions=config.max_position_embeddings,
        embed_norm=True,
        norm_eps=config.layer_norm_eps,
        activation=activation(config.hidden_act),
        max_length=config.max_position_embeddings,
    )


def roberta_arch(config) -> Arch:
    """RoBERTa: positions start behind the padding id."""
    offset = config.pad_token_id + 1
    return arch(config).replace(
        position_offset=offset, max_length=config.max_position_embeddings - offset
    )


def electra_arch(config) -> Arch:
    """ELECTRA: factorized embeddings."""
    return arch(config).replace(embed_dim=config.embedding_size)


def distilbert_arch(config) -> Arch:
    """DistilBERT: no token types, its own configuration names."""
    return Arch(
        vocab=config.vocab_size,
        layers=config.n_layers,
        dim=config.dim,
        heads=config.n_heads,
        kv_heads=config.n_heads,
        head_dim=config.dim // config.n_heads,
        mlp_dim=config.hidden_dim,
        positions=config.max_position_embeddings,
        embed_norm=True,
        activation=activation(config.activation),
        max_length=config.max_position_embeddings,
    )


def _names(layer: str, attention: dict[str, str], tail: str) -> str:
    lines = "".join(
        dense(f"layers.attention.{ours}", f"{layer}.{name}", f"({head} H) D")
        for ours, name, head in (
            ("query", attention["query"], "N"),
            ("key", attention["key"], "K"),
            ("value", attention["value"], "K"),
        )
    )
    return lines + dense("layers.attention.out", f"{layer}.{attention['out']}", "D (N H)") + tail


EMBEDDINGS = """
embed.token.embedding     embeddings.word_embeddings.weight        V E
embed.position.embedding  embeddings.position_embeddings.weight    P E
embed.type.embedding      embeddings.token_type_embeddings.weight  Y E
""" + norm("embed.norm", "embeddings.LayerNorm", "E")

LAYER = "encoder.layer.{L}"
NAMES = EMBEDDINGS + _names(
    LAYER,
    {
        "query": "attention.self.query",
        "key": "attention.self.key",
        "value": "attention.self.value",
        "out": "attention.output.dense",
    },
    norm("layers.attention_norm", f"{LAYER}.attention.output.LayerNorm")
    + dense("layers.mlp.up", f"{LAYER}.intermediate.dense", "F D")
    + dense("layers.mlp.down", f"{LAYER}.output.dense", "D F")
    + norm("layers.mlp_norm", f"{LAYER}.output.LayerNorm"),
)

DISTIL = "transformer.layer.{L}"
DISTILBERT_NAMES = EMBEDDINGS + _names(
    DISTIL,
    {
        "query": "attention.q_lin",
        "key": "attention.k_lin",
        "value": "attention.v_lin",
        "out": "attention.out_lin",
    },
    norm("layers.attention_norm", f"{DISTIL}.sa_layer_norm")
    + dense("layers.mlp.up", f"{DISTIL}.ffn.lin1", "F D")
    + dense("layers.mlp.down", f"{DISTIL}.ffn.lin2", "D F")
    + norm("layers.mlp_norm", f"{DISTIL}.output_layer_norm"),
)


def classifier(pooled: str, act: str, output: str) -> Head:
    """The first token through a dense layer on disk `pooled`, its activation, and `output`."""

    def steps(config, arch):
        dim = arch.dim
        return (
            Pool(("cls",)),
            Dense("pooler", dim, dim, activation=act),
            Dense("classifier", dim, config.num_labels),
        )

    return Head(
        "classify", steps, dense("heads.pooler", pooled) + dense("heads.classifier", output)
    )


def token_classifier(output: str = "classifier") -> Head:
    """A linear layer on every token."""
    return Head(
        "token_classify",
        lambda config, arch: (Dense("classifier", arch.dim, config.num_labels),),
        dense("heads.classifier", output),
    )


def masked_lm(transform: str, normed: str, decoder: str, bias: str) -> Head:
    """dense -> activation -> LayerNorm -> vocabulary; the decoder is tied where it is absent."""

    def steps(config, arch):
        width = arch.embed_dim or arch.dim
        return (
            Dense("transform", arch.dim, width, activation=arch.activation),
            Norm("transform_norm", width, arch.norm_eps),
            Dense("decoder", width, arch.vocab),
        )

    names = (
        dense("heads.transform", transform)
        + norm("heads.transform_norm", normed, "O")
        + f"heads.decoder.kernel {decoder}.weight O I\nheads.decoder.bias {bias} O\n"
    )
    return Head("sparse", steps, names)


# BertModel files carry the pooler of next-sentence prediction; it is kept, not used.
POOLER = Head(
    "",
    lambda config, arch: (Dense("pooler", arch.dim, arch.dim),),
    dense("heads.pooler", "pooler.dense"),
)

BERT = Family(
    arch,
    NAMES,
    prefix="bert.",
    heads={
        "Model": POOLER,
        "SequenceClassification": classifier("bert.pooler.dense", "tanh", "classifier"),
        "TokenClassification": token_classifier(),
    },
    renames=LEGACY,
    ignored=(*BUFFERS, r"^cls\."),
)

ROBERTA = Family(
    roberta_arch,
    NAMES,
    prefix="roberta.",
    heads={
        "Model": POOLER,
        "SequenceClassification": classifier("classifier.dense", "tanh", "classifier.out_proj"),
        "TokenClassification": token_classifier(),
    },
    renames=LEGACY,
    ignored=(*BUFFERS, r"^lm_head\.", r"^roberta\.pooler\."),
)

ELECTRA = Family(
    electra_arch,
    NAMES + dense("embed.project", "embeddings_project", "D E"),
    prefix="electra.",
    heads={
        "SequenceClassification": classifier("classifier.dense", "gelu", "classifier.out_proj"),
        "TokenClassification": token_classifier(),
    },
    renames=LEGACY,
    ignored=(*BUFFERS, r"^discriminator_predictions\.", r"^generator_"),
)

DISTILBERT = Family(
    distilbert_arch,
    DISTILBERT_NAMES,
    prefix="distilbert.",
    heads={
        "SequenceClassification": classifier("pre_classifier", "relu", "classifier"),
        "TokenClassification": token_classifier(),
    },
    ignored=(*BUFFERS, r"^vocab_"),
)
