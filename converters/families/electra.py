"""ELECTRA: BERT with factorized embeddings."""

from converters.families import bert
from converters.family import Family, dense
from converters.heads.classifiers import classifier, masked_lm, token_classifier
from jaxpool.nn.arch import Arch


def arch(config) -> Arch:
    """ELECTRA: factorized embeddings."""
    return bert.arch(config).replace(embed_dim=config.embedding_size)


ELECTRA = Family(
    "Electra",
    arch,
    bert.NAMES + dense("embed.project", "embeddings_project", "D E"),
    prefix="electra.",
    heads={
        "SequenceClassification": classifier("classifier.dense", "classifier.out_proj", "gelu"),
        "TokenClassification": token_classifier(),
        "MaskedLM": masked_lm(
            "generator_predictions.dense",
            "generator_predictions.LayerNorm",
            "generator_lm_head",
            "electra.embeddings.word_embeddings",
            act="gelu",
        ),
    },
    renames=bert.LEGACY,
    ignored=(*bert.BUFFERS, r"^discriminator_predictions\.", r"^generator_"),
    examples=("cross-encoder/ms-marco-electra-base",),
)
