"""FNet: BERT with a Fourier transform in place of attention."""

from converters.families import bert
from converters.family import Family, activation, dense, norm
from converters.heads.classifiers import bert_heads, unused_pooler
from jaxpool.nn.arch import Arch
from jaxpool.nn.records import Fourier


def arch(config) -> Arch:
    """FNet: the transform of a text is of its own length, not of the padding beside it."""
    return Arch(
        vocab=config.vocab_size,
        layers=config.num_hidden_layers,
        dim=config.hidden_size,
        heads=1,
        kv_heads=1,
        head_dim=config.hidden_size,
        mlp_dim=config.intermediate_size,
        token_types=config.type_vocab_size,
        positions=config.max_position_embeddings,
        embed_norm=True,
        embed_project=True,
        norm_eps=config.layer_norm_eps,
        mixer=Fourier(),
        attention_layers=(False,) * config.num_hidden_layers,
        activation=activation(config.hidden_act),
        max_length=config.max_position_embeddings,
    )


LAYER = "encoder.layer.{L}"
NAMES = (
    bert.EMBEDDINGS
    + dense("embed.project", "embeddings.projection", "D E")
    + norm("layers.attention_norm", f"{LAYER}.fourier.output.LayerNorm")
    + dense("layers.mlp.up", f"{LAYER}.intermediate.dense", "F D")
    + dense("layers.mlp.down", f"{LAYER}.output.dense", "D F")
    + norm("layers.mlp_norm", f"{LAYER}.output.LayerNorm")
)

FNET = Family(
    "FNet",
    arch,
    NAMES,
    prefix="fnet.",
    heads={"Model": unused_pooler(), **bert_heads("fnet.")},
    renames=bert.LEGACY,
    ignored=(*bert.BUFFERS, r"^cls\.", r"\.pooler\.", r"dft_mat_(hidden|seq)$"),
    examples=("google/fnet-base",),
)
