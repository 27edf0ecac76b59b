"""RemBERT: BERT whose embeddings have a size of their own, another one on the way out."""

from converters.families import bert
from converters.family import Family, dense
from converters.heads.classifiers import bert_heads, masked_lm, unused_pooler
from jaxpool.heads.steps import Dense, Norm
from jaxpool.nn.arch import Arch


def arch(config) -> Arch:
    """RemBERT: factorized embeddings."""
    return bert.arch(config).replace(embed_dim=config.input_embedding_size)


def _to_words(config, arch: Arch) -> tuple:
    """BERT's transform, to the size of the output embeddings."""
    width = config.output_embedding_size
    return (
        Dense("transform", arch.dim, width, activation=arch.activation),
        Norm("transform_norm", width, arch.norm_eps),
        Dense("decoder", width, arch.vocab),
    )


REMBERT = Family(
    "RemBert",
    arch,
    bert.NAMES + dense("embed.project", "encoder.embedding_hidden_mapping_in", "D E"),
    prefix="rembert.",
    heads={
        "Model": unused_pooler(),
        **bert_heads("rembert."),
        "MaskedLM": masked_lm(
            "cls.predictions.dense",
            "cls.predictions.LayerNorm",
            "cls.predictions.decoder",
            "rembert.embeddings.word_embeddings",
        )._replace(steps=_to_words),
    },
    ignored=(*bert.BUFFERS, r"^cls\.", r"\.pooler\."),
    examples=("google/rembert",),
)
