"""BigBird: BERT, exact on texts so short that its sparse attention is full."""

from dataclasses import replace

from converters.families import bert
from converters.heads.classifiers import ACTIVATED, bert_heads, unused_pooler
from jaxpool.nn.arch import Arch


def arch(config) -> Arch:
    """BigBird: longer texts than these would attend to random blocks, which no two runs share."""
    base = bert.arch(config)
    return base.replace(
        qkv_bias=config.use_bias,
        embed_scale=config.hidden_size**0.5 if config.rescale_embeddings else 1.0,
        max_length=min(base.max_length, reach(config)),
    )


def reach(config) -> int:
    """The longest text whose blocks are all seen."""
    blocks = (5 + 2 * config.num_random_blocks) * config.block_size
    return blocks if config.attention_type == "block_sparse" else config.max_position_embeddings


BIG_BIRD = replace(
    bert.BERT,
    name="BigBird",
    arch=arch,
    heads={
        "Model": unused_pooler("pooler"),
        **bert_heads("bert."),
        "SequenceClassification": ACTIVATED,
    },
    examples=("google/bigbird-roberta-base",),
)
