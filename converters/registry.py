"""Which family reads which checkpoint."""

from collections.abc import Mapping

from converters.albert import ALBERT
from converters.bert import BERT, ERNIE
from converters.distilbert import DISTILBERT
from converters.electra import ELECTRA
from converters.family import Family
from converters.gte import GTE, NEW
from converters.jina_v3 import JINA_V3
from converters.llama import LLAMA, MISTRAL, OLMO2, QWEN2, QWEN3, QWEN3_MOE, SMOLLM3
from converters.modernbert import MODERNBERT
from converters.mpnet import MPNET
from converters.nomic import NOMIC
from converters.roberta import CAMEMBERT, ROBERTA, XLM_ROBERTA

# By the `model_type` of config.json.
FAMILIES: dict[str, Family] = {
    "albert": ALBERT,
    "bert": BERT,
    "camembert": CAMEMBERT,
    "distilbert": DISTILBERT,
    "electra": ELECTRA,
    "ernie": ERNIE,
    "gte": GTE,
    "jina_embeddings_v3": JINA_V3,
    "llama": LLAMA,
    "mistral": MISTRAL,
    "modernbert": MODERNBERT,
    "mpnet": MPNET,
    "new": NEW,
    "nomic_bert": NOMIC,
    "olmo2": OLMO2,
    "qwen2": QWEN2,
    "qwen3": QWEN3,
    "qwen3_moe": QWEN3_MOE,
    "roberta": ROBERTA,
    "smollm3": SMOLLM3,
    "xlm-roberta": XLM_ROBERTA,
}


def find(config: Mapping) -> Family:
    """The family of a config.json; the error lists the supported model types."""
    model_type = config.get("model_type")
    if model_type not in FAMILIES:
        raise ValueError(
            f"unsupported architecture: model_type {model_type!r}; "
            f"supported: {', '.join(sorted(FAMILIES))}"
        )
    return FAMILIES[model_type]
