"""BERT, and ERNIE, which adds the embedding of a pretraining task."""

from dataclasses import replace

from converters.family import Family, activation, attention, dense, norm, sizes
from converters.heads.classifiers import bert_heads, unused_pooler
from jaxpool.nn.arch import Arch

LEGACY = ((r"LayerNorm\.gamma$", "LayerNorm.weight"), (r"LayerNorm\.beta$", "LayerNorm.bias"))
BUFFERS = (r"position_ids$", r"token_type_ids$")


def arch(config) -> Arch:
    """BERT: post-norm, learned positions, exact GELU."""
    return Arch(
        **sizes(config),
        mlp_dim=config.intermediate_size,
        token_types=getattr(config, "type_vocab_size", 0),
        positions=config.max_position_embeddings,
        embed_norm=True,
        norm_eps=config.layer_norm_eps,
        activation=activation(getattr(config, "hidden_act", "gelu")),
        causal=config.knows("is_decoder") and bool(config.is_decoder),
        max_length=config.max_position_embeddings,
    )


def rotary_arch(config, table) -> Arch:
    """The same with rotary positions instead of learned ones."""
    return arch(config).replace(positions=0, rotary=(table,))


def ernie_arch(config) -> Arch:
    """ERNIE: the task table is there where `use_task_id` says so."""
    return arch(config).replace(task_types=config.task_type_vocab_size * config.use_task_id)


EMBEDDINGS = """
embed.token.embedding     embeddings.word_embeddings.weight        V E
embed.position.embedding  embeddings.position_embeddings.weight    P E
embed.type.embedding      embeddings.token_type_embeddings.weight  Y E
embed.task.embedding      embeddings.task_type_embeddings.weight   Z E
""" + norm("embed.norm", "embeddings.LayerNorm", "E")

LAYER = "encoder.layer.{L}"
NAMES = (
    EMBEDDINGS
    + attention(f"{LAYER}.attention", "self.query", "self.key", "self.value", "output.dense")
    + norm("layers.attention_norm", f"{LAYER}.attention.output.LayerNorm")
    + dense("layers.mlp.up", f"{LAYER}.intermediate.dense", "F D")
    + dense("layers.mlp.down", f"{LAYER}.output.dense", "D F")
    + norm("layers.mlp_norm", f"{LAYER}.output.LayerNorm")
)

BERT = Family(
    "Bert",
    arch,
    NAMES,
    prefix="bert.",
    heads={"Model": unused_pooler(), **bert_heads("bert.")},
    renames=LEGACY,
    ignored=(*BUFFERS, r"^cls\.", r"\.pooler\."),
    examples=("sentence-transformers/all-MiniLM-L6-v2", "BAAI/bge-base-en-v1.5"),
)

ERNIE = replace(
    BERT,
    name="Ernie",
    arch=ernie_arch,
    prefix="ernie.",
    heads={"Model": unused_pooler(), **bert_heads("ernie.")},
    examples=("nghuyong/ernie-3.0-base-zh", "shibing624/text2vec-base-chinese-paraphrase"),
)
