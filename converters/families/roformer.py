"""RoFormer: BERT with rotary positions, and embeddings that may have a size of their own."""

from converters.families import bert
from converters.family import Family, dense
from converters.heads.classifiers import ACTIVATED, bert_heads
from jaxpool.nn.arch import Arch, Rotary


def arch(config) -> Arch:
    """RoFormer: neighbouring features of query and key turn."""
    if config.rotary_value:
        raise ValueError("config.json: rotary_value must be false for RoFormer, found true")
    size = config.embedding_size or config.hidden_size
    base = bert.arch(config)
    table = Rotary(10000.0, base.head_dim, interleaved=True)
    return base.replace(positions=0, rotary=(table,), embed_dim=size)


ROFORMER = Family(
    "RoFormer",
    arch,
    bert.NAMES + dense("embed.project", "embeddings_project", "D E"),
    prefix="roformer.",
    heads=bert_heads("roformer.") | {"SequenceClassification": ACTIVATED},
    renames=bert.LEGACY,
    ignored=(*bert.BUFFERS, r"^cls\.", r"encoder\.embed_positions\."),
    examples=("junnyu/roformer_chinese_base",),
)
