"""Static embeddings (sentence-transformers' StaticEmbedding, model2vec): a table and a mean."""

from converters.family import Family
from jaxpool.arch import Arch

REACH = 1 << 15  # tokens of a text; the table itself knows no limit


def arch(config) -> Arch:
    """No layers."""
    return Arch(
        vocab=config.vocab_size,
        layers=0,
        dim=config.hidden_size,
        heads=1,
        kv_heads=1,
        head_dim=config.hidden_size,
        mlp_dim=1,
        max_length=REACH,
    )


STATIC = Family(
    "Static",
    arch,
    "embed.token.embedding embedding.weight V E",
    renames=((r"^embeddings$", "embedding.weight"),),
    config="bert",  # a configuration to hold the two sizes
    sizes={"vocab_size": ("embedding.weight", 0), "hidden_size": ("embedding.weight", 1)},
    special_tokens=False,
    pool="mean",
    examples=("minishlab/potion-base-8M", "sentence-transformers/static-retrieval-mrl-en-v1"),
)
