"""Static embeddings (sentence-transformers' StaticEmbedding, model2vec): a table and a mean."""

import numpy as np

from converters.derived import Derived
from converters.family import Family
from converters.report import CheckpointError
from jaxpool.nn.arch import Arch

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


TABLE = "embedding.weight"
EXTRA = frozenset({"mapping", "weights"})


def fold(source, config=None):
    """One row a token: model2vec may map tokens to shared rows, and weigh each token's."""
    extra = EXTRA & source.keys()
    if not extra:
        return source
    rows, features = source.shape(TABLE)
    counts = {source.shape(name)[0] for name in extra}
    if len(counts) > 1 or ("mapping" not in extra and counts != {rows}):
        shapes = {name: source.shape(name) for name in sorted({TABLE, *extra})}
        raise CheckpointError(f"tensors of a row a token differ in the number of tokens: {shapes}")

    def table() -> np.ndarray:
        found = source[TABLE]
        found = found[source["mapping"]] if "mapping" in extra else found
        return found * source["weights"][:, None] if "weights" in extra else found

    like = "weights" if "weights" in extra else TABLE
    return Derived(source, TABLE, (*counts, features), like, table, EXTRA)


STATIC = Family(
    "Static",
    arch,
    f"embed.token.embedding {TABLE} V E",
    renames=((r"^embeddings$", TABLE),),
    derive=fold,
    config="bert",  # a configuration to hold the two sizes
    sizes={"vocab_size": (TABLE, 0), "hidden_size": (TABLE, 1)},
    special_tokens=False,
    pool="mean",
    examples=("minishlab/potion-base-8M", "sentence-transformers/static-retrieval-mrl-en-v1"),
)
