"""Task heads that several families share, with the names of their tensors."""

from collections.abc import Callable

from converters.family import Head, activation, dense, norm
from jaxpool.heads.steps import Dense, Norm, Pool


def classifier(hidden: str, output: str, act: str | Callable = "tanh") -> Head:
    """The first token through a dense layer on disk `hidden`, its activation, and `output`.

    `act` is a name, or a function configuration -> name.
    """

    def steps(config, arch):
        return (
            Pool(("cls",)),
            Dense("pooler", arch.dim, arch.dim, activation=act(config) if callable(act) else act),
            Dense("classifier", arch.dim, config.num_labels),
        )

    return Head(
        "classify", steps, dense("heads.pooler", hidden) + dense("heads.classifier", output)
    )


# With the activation of the model itself, as several descendants of BERT have it.
ACTIVATED = classifier(
    "classifier.dense", "classifier.out_proj", lambda config: activation(config.hidden_act)
)


def token_classifier(output: str = "classifier") -> Head:
    """A linear layer on every token."""
    return Head(
        "token_classify",
        lambda config, arch: (Dense("classifier", arch.dim, config.num_labels),),
        dense("heads.classifier", output),
    )


def masked_lm(
    transform: str, normed: str, decoder: str, embedding: str, bias: str = "", act: str = ""
) -> Head:
    """dense -> activation -> LayerNorm -> vocabulary, where the file may tie the vocabulary.

    `act` and `bias` are the MLP's activation and the decoder's own bias unless given.
    """

    def steps(config, arch):
        width = arch.embed_dim or arch.dim
        return (
            Dense("transform", arch.dim, width, activation=act or arch.activation),
            Norm("transform_norm", width, arch.norm_eps),
            Dense("decoder", width, arch.vocab),
        )

    names = (
        dense("heads.transform", transform)
        + norm("heads.transform_norm", normed, "O")
        + f"heads.decoder.kernel {decoder}.weight={embedding}.weight O I\n"
        + f"heads.decoder.bias {bias or decoder}.bias O\n"
    )
    return Head("sparse", steps, names)


def colbert(name: str = "linear") -> Head:
    """Late interaction: a linear layer without bias on every token."""
    return Head(
        "token_embed",
        lambda config, arch: (Dense("colbert", arch.dim, config.colbert_dim, bias=False),),
        f"heads.colbert.kernel {name}.weight O I\n",
        sizes={"colbert_dim": f"{name}.weight"},
    )


def token_vectors(name: str) -> Head:
    """Late interaction of pages: a linear layer on every token, as wide as the file has it."""
    return Head(
        "token_embed",
        lambda config, arch: (Dense("projection", arch.dim, config.embedding_dim),),
        dense("heads.projection", name),
        optional_bias=True,
        sizes={"embedding_dim": f"{name}.weight"},
    )


def bert_heads(prefix: str, normed: str = "LayerNorm") -> dict[str, Head]:
    """BERT's heads: pooler and classifier, and the transform of `cls.predictions`."""
    lm = "cls.predictions"
    return {
        "SequenceClassification": classifier(f"{prefix}pooler.dense", "classifier"),
        "TokenClassification": token_classifier(),
        "MaskedLM": masked_lm(
            f"{lm}.transform.dense",
            f"{lm}.transform.{normed}",
            f"{lm}.decoder",
            f"{prefix}embeddings.word_embeddings",
            bias=lm,
        ),
        "ColBERT": colbert(),
    }


def roberta_heads(prefix: str) -> dict[str, Head]:
    """RoBERTa's heads: the classifier has a hidden layer of its own, the transform is GELU's."""
    return {
        "SequenceClassification": classifier("classifier.dense", "classifier.out_proj"),
        "TokenClassification": token_classifier(),
        "MaskedLM": masked_lm(
            "lm_head.dense",
            "lm_head.layer_norm",
            "lm_head.decoder",
            f"{prefix}embeddings.word_embeddings",
            bias="lm_head",
            act="gelu",
        ),
        "ColBERT": colbert(),
    }


def unused_pooler(name: str = "pooler.dense") -> Head:
    """The pooler that files of base models carry from pretraining; it is kept, not used."""
    return Head(
        "",
        lambda config, arch: (Dense("pooler", arch.dim, arch.dim),),
        dense("heads.pooler", name),
    )
