"""RoBERTa and its twins, multilingual and French ones among them: BERT with shifted positions."""

import re

from converters.families import bert
from converters.family import Family, require
from converters.heads.classifiers import (
    classifier,
    masked_lm,
    roberta_heads,
    token_classifier,
    unused_pooler,
)
from jaxpool.nn.arch import Arch


def arch(config) -> Arch:
    """RoBERTa: positions start behind the padding id, and do not count tokens that have it."""
    offset = config.pad_token_id + 1
    return bert.arch(config).replace(
        position_offset=offset,
        uncounted=config.pad_token_id,
        max_length=config.max_position_embeddings - offset,
    )


def ibert_arch(config) -> Arch:
    """I-BERT: RoBERTa before its numbers are made integers."""
    require(config, quant_mode=False)
    return arch(config)


def ignored(prefix: str) -> tuple[str, ...]:
    """Tensors of files whose head is not in use."""
    return (*bert.BUFFERS, r"^lm_head\.", rf"^{re.escape(prefix)}pooler\.")


def twin(name: str, prefix: str, **changes) -> Family:
    """A family whose files are RoBERTa's under another prefix, but for what is given."""
    heads = {"Model": unused_pooler(), **roberta_heads(prefix)}
    facts = dict(heads=heads, renames=bert.LEGACY, ignored=ignored(prefix))
    switches, names = changes.pop("arch", arch), changes.pop("names", bert.NAMES)
    return Family(name, switches, names, prefix, **(facts | changes))


ROBERTA = twin("Roberta", "roberta.", examples=("sentence-transformers/all-roberta-large-v1",))
XLM_ROBERTA = twin(
    "XLMRoberta",
    "roberta.",
    examples=("intfloat/multilingual-e5-large", "BAAI/bge-m3", "BAAI/bge-reranker-v2-m3"),
)
CAMEMBERT = twin("Camembert", "roberta.", examples=("dangvantuan/sentence-camembert-large",))
DATA2VEC = twin("Data2VecText", "data2vec_text.", examples=("facebook/data2vec-text-base",))
# Published in floating point; of the integers that it may be turned into, its files have room only.
IBERT = twin(
    "IBert",
    "ibert.",
    arch=ibert_arch,
    ignored=(*ignored("ibert."), r"_integer$", r"scaling_factor$", r"\.(x_min|x_max|shift)$"),
    examples=("kssteven/ibert-roberta-base",),
)
# Entities are a second input of LUKE; of a text alone it computes what RoBERTa does.
LUKE = twin(
    "Luke",
    "luke.",
    heads={
        "Model": unused_pooler(),
        "SequenceClassification": classifier("luke.pooler.dense", "classifier"),
        "TokenClassification": token_classifier(),
        "MaskedLM": masked_lm(
            "lm_head.dense",
            "lm_head.layer_norm",
            "lm_head.decoder",
            "luke.embeddings.word_embeddings",
            bias="lm_head.decoder.bias=lm_head",  # files have one of them, or both
            act="gelu",
        ),
    },
    ignored=(*ignored("luke."), r"entity_", r"\.(w2e|e2w|e2e)_query\.", r"^embeddings_project"),
    examples=("studio-ousia/luke-base", "studio-ousia/mluke-base-lite"),
)
