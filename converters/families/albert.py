"""ALBERT: BERT with factorized embeddings and one set of weights for all layers."""

from converters.families import bert
from converters.family import Family, attention, dense, norm
from converters.heads.classifiers import classifier, masked_lm, token_classifier, unused_pooler
from jaxpool.nn.arch import Arch


def arch(config) -> Arch:
    """ALBERT as published: a single group of a single layer, run `num_hidden_layers` times."""
    for field in ("num_hidden_groups", "inner_group_num"):
        if getattr(config, field) != 1:
            raise ValueError(f"config.json: {field} must be 1, found {getattr(config, field)}")
    return bert.arch(config).replace(embed_dim=config.embedding_size, shared_layers=True)


LAYER = "encoder.albert_layer_groups.{L}.albert_layers.0"

ALBERT = Family(
    "Albert",
    arch,
    bert.EMBEDDINGS
    + dense("embed.project", "encoder.embedding_hidden_mapping_in", "D E")
    + attention(f"{LAYER}.attention", "query", "key", "value", "dense")
    + norm("layers.attention_norm", f"{LAYER}.attention.LayerNorm")
    + dense("layers.mlp.up", f"{LAYER}.ffn", "F D")
    + dense("layers.mlp.down", f"{LAYER}.ffn_output", "D F")
    + norm("layers.mlp_norm", f"{LAYER}.full_layer_layer_norm"),
    prefix="albert.",
    heads={
        "Model": unused_pooler("pooler"),
        "SequenceClassification": classifier("albert.pooler", "classifier"),
        "TokenClassification": token_classifier(),
        "MaskedLM": masked_lm(
            "predictions.dense",
            "predictions.LayerNorm",
            "predictions.decoder",
            "albert.embeddings.word_embeddings",
            bias="predictions",
        ),
    },
    renames=bert.LEGACY,
    ignored=(*bert.BUFFERS, r"^predictions\.", r"^sop_classifier\.", r"^albert\.pooler\."),
    examples=("sentence-transformers/paraphrase-albert-small-v2",),
)
