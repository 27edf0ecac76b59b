"""DistilBERT: BERT without token types, under its own names."""

from converters.families.bert import BUFFERS, EMBEDDINGS, LEGACY
from converters.family import Family, activation, attention, dense, norm, sizes
from converters.heads.classifiers import classifier, masked_lm, token_classifier
from jaxpool.nn.arch import Arch


def arch(config) -> Arch:
    """DistilBERT: no token types, its own configuration names."""
    return Arch(
        **sizes(config),
        mlp_dim=config.hidden_dim,
        positions=config.max_position_embeddings,
        embed_norm=True,
        activation=activation(config.activation),
        max_length=config.max_position_embeddings,
    )


LAYER = "transformer.layer.{L}"

DISTILBERT = Family(
    "DistilBert",
    arch,
    EMBEDDINGS
    + attention(f"{LAYER}.attention", "q_lin", "k_lin", "v_lin", "out_lin")
    + norm("layers.attention_norm", f"{LAYER}.sa_layer_norm")
    + dense("layers.mlp.up", f"{LAYER}.ffn.lin1", "F D")
    + dense("layers.mlp.down", f"{LAYER}.ffn.lin2", "D F")
    + norm("layers.mlp_norm", f"{LAYER}.output_layer_norm"),
    prefix="distilbert.",
    heads={
        "SequenceClassification": classifier("pre_classifier", "classifier", "relu"),
        "TokenClassification": token_classifier(),
        "MaskedLM": masked_lm(
            "vocab_transform",
            "vocab_layer_norm",
            "vocab_projector",
            "distilbert.embeddings.word_embeddings",
        ),
    },
    renames=LEGACY,
    ignored=(*BUFFERS, r"^vocab_"),
    examples=("sentence-transformers/msmarco-distilbert-base-v4",),
)
