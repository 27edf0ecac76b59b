"""The settings of late-interaction checkpoints, in the three layouts that publish them.

sentence-transformers' MultiVectorEncoder keeps them with its modules, PyLate in
config_sentence_transformers.json, colbert-ai in artifact.metadata.
"""

import string
from pathlib import Path

from converters.files.folder import read_json
from jaxpool.tasks.token_pooling import TokenPooling
from jaxpool.text.late_interaction import SIDES, Expansion, LateInteraction

LENGTH = 32  # tokens of a query, where the files do not say
# Settings that PyLate alone writes; before sentence-transformers 5 it named no model_type.
PYLATE = frozenset(
    "query_prefix document_prefix query_length document_length do_query_expansion "
    "attend_to_expansion_tokens skiplist_words".split()
)
MASK, POOLING = "MultiVectorMask", "HierarchicalTokenPooling"
PUNCTUATION = tuple(string.punctuation)


def read_late_interaction(folder: Path, config) -> LateInteraction | None:
    """The settings of a folder; None for other models, and where no file has any."""
    settings = read_json(folder / "config_sentence_transformers.json", default={})
    metadata = read_json(folder / "artifact.metadata", default={})
    types = {module["type"]: module for module in read_json(folder / "modules.json", default=[])}
    kinds = {name.rpartition(".")[2]: folder / module["path"] for name, module in types.items()}
    kind = settings.get("model_type")
    if kind == "MultiVectorEncoder" or {MASK, POOLING} & kinds.keys():
        return _multi_vector(kinds, settings)
    own = PYLATE & settings.keys() or any(name.startswith("pylate.") for name in types)
    if kind == "ColBERT" or (own and kind in (None, "SentenceTransformer")):
        return _pylate(settings)
    if metadata and "HF_ColBERT" in (config.architectures or ()):
        return _colbert_ai(metadata)
    return None


def _multi_vector(kinds: dict[str, Path], settings: dict) -> LateInteraction:
    module = read_json(kinds["Transformer"] / "sentence_bert_config.json", default={})
    mask = {}
    if MASK in kinds:
        mask = read_json(kinds[MASK] / "config.json", default={})
    words = tuple(mask.get("skiplist_words") or ())
    expansion = module.get("query_expansion")
    return LateInteraction(
        prompts={side: (settings.get("prompts") or {}).get(side) or "" for side in SIDES},
        lengths={side: module.get(f"{side}_length") for side in SIDES},
        expansion=expansion
        and Expansion(
            expansion["length"],
            expansion.get("token"),
            expansion.get("attend", False),
            expansion["strategy"] == "fixed",
        ),
        skipped={side: words for side in mask.get("skiplist_tasks") or ("document",)},
        mean=settings.get("similarity_fn_name") == "meanmaxsim",
        pooling=_pooling(read_json(kinds[POOLING] / "config.json")) if POOLING in kinds else None,
    )


def _pooling(config: dict) -> TokenPooling:
    sides = config.get("tasks") or ("document",)
    return TokenPooling(
        config.get("pool_factor", 1.0),
        config.get("num_protected_tokens", 1),
        config.get("normalize_embeddings", False),
        (sides,) if isinstance(sides, str) else tuple(sides),
    )


def _pylate(settings: dict) -> LateInteraction:
    saved = settings.get("prompts") or {}
    prompts = {}
    for side in SIDES:
        prefix = settings.get(f"{side}_prefix") or ""
        prompts[side] = prefix + (saved.get(side) or "").removeprefix(prefix)
    expansion = None
    if settings.get("do_query_expansion") is not False:
        attend = bool(settings.get("attend_to_expansion_tokens"))
        expansion = Expansion(settings.get("query_length") or LENGTH, attend=attend)
    words = settings.get("skiplist_words")
    return LateInteraction(
        prompts=prompts,
        lengths={side: settings.get(f"{side}_length") for side in SIDES},
        expansion=expansion,
        skipped={"document": PUNCTUATION if words is None else tuple(words)},
        markers=True,
    )


def _colbert_ai(metadata: dict) -> LateInteraction:
    query = metadata.get("query_token_id") or "[unused0]"
    document = metadata.get("doc_token_id") or "[unused1]"
    length = metadata.get("query_maxlen") or LENGTH
    return LateInteraction(
        prompts={"query": f"{query} ", "document": f"{document} "},
        lengths={"document": metadata.get("doc_maxlen")},
        expansion=Expansion(length, attend=bool(metadata.get("attend_to_mask_tokens"))),
        skipped={"document": PUNCTUATION if metadata.get("mask_punctuation", True) else ()},
        markers=True,
    )
