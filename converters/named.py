"""Which family reads which model, where its files do not say."""

from converters.families.biqwen import BIQWEN2_5
from converters.families.jina_v4 import JINA_V4_MERGED
from converters.families.qwen2_5_vl import QWEN2_5_VL
from converters.family import Family

# By a model's own name, what its files call plain Qwen2.5-VL.
NAMED: dict[str, Family] = {
    "jina-embeddings-v4-vllm": JINA_V4_MERGED,
    "nomic-embed-multimodal": BIQWEN2_5,
}


def named(family: Family, name: str) -> Family:
    """The family of a model by its own name, where its files have those of another one."""
    plain = family is QWEN2_5_VL
    found = (own for start, own in NAMED.items() if plain and name.lower().startswith(start))
    return next(found, family)
