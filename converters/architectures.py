"""Which head a checkpoint's architecture name and the `runner` and `convert` options ask for."""

from converters.family import Family, Head

SUFFIXES = (  # the first that fits an architecture's name: its runner, what it converts to
    ("ForCausalLM", "generate", "none"),
    ("ForConditionalGeneration", "generate", "none"),
    ("ChatModel", "generate", "none"),
    ("LMHeadModel", "generate", "none"),
    ("ForTextEncoding", "pooling", "embed"),
    ("EmbeddingModel", "pooling", "embed"),
    ("ForSequenceClassification", "pooling", "classify"),
    ("ForTokenClassification", "pooling", "classify"),
    ("ForAudioClassification", "pooling", "classify"),
    ("ForImageClassification", "pooling", "classify"),
    ("ForVideoClassification", "pooling", "classify"),
    ("ClassificationModel", "pooling", "classify"),
    ("ForRewardModeling", "pooling", "embed"),
    ("RewardModel", "pooling", "embed"),
    ("Model", "pooling", "embed"),
)
CONVERTS = ("auto", "none", "embed", "classify", "reward", "decide")
RUNNERS = ("auto", "pooling", "generate", "draft")
# Architectures whose names do not end in the name of their head.
OTHER_HEADS: dict[str, str] = {
    "BertGenerationEncoder": "Model",
    "BertSpladeSparseEmbeddingModel": "MaskedLM",
    "BgeM3EmbeddingModel": "Model",
    "C2LLMForEmbedding": "Model",
    "CodeFuse_CGE_Large": "Model",
    "ColBERTJinaRobertaModel": "ColBERT",
    "ColBERTLfm2Model": "ColBERT",
    "ColBERTModernBertModel": "ColBERT",
    "DPRContextEncoder": "Model",
    "DPRQuestionEncoder": "Model",
    "FlaubertWithLMHeadModel": "MaskedLM",
    "HF_ColBERT": "ColBERT",
    "JinaForRanking": "Ranking",
    "JinaVLForRanking": "Ranking",
    "XLMWithLMHeadModel": "MaskedLM",
}
HEADS = {
    "classify": ("SequenceClassification",),
    "reward": ("RewardModel", "SequenceClassification"),
}


def architecture(config) -> str:
    """The architecture's name in config.json; "Model" where it has none."""
    return (config.architectures or ["Model"])[0]


def ending(config) -> str:
    """What an architecture's name ends in: "Model", "SequenceClassification", "MaskedLM", ..."""
    name = architecture(config)
    if name in OTHER_HEADS:
        return OTHER_HEADS[name]
    return name.rpartition("For")[2] if "For" in name else "Model"


def defaults(name: str) -> tuple[str, str]:
    """(runner, convert) of an architecture by the suffix of its name."""
    found = (row[1:] for row in SUFFIXES if name.endswith(row[0]))
    return next(found, ("pooling", "embed"))


def check_options(runner: str, convert: str, name: str, pools: bool) -> None:
    """Refuse what cannot run as a pooling model; `pools`: the files say how the model pools."""
    for option, value, known in (("runner", runner, RUNNERS), ("convert", convert, CONVERTS)):
        if value not in known:
            raise ValueError(f"unknown {option} {value!r}; known: {', '.join(known)}")
    if runner in ("generate", "draft"):
        raise ValueError(
            f"Embedding models do not support `--runner {runner}`. Use `--runner pooling` or "
            "`--runner auto` for embedding models."
        )
    if convert == "none" and not pools and defaults(name)[0] == "generate":
        raise ValueError(
            "This model does not support `--runner pooling`. You can pass "
            "`--convert <embed|classify>` to adapt it into a pooling model."
        )


def choose_head(family: Family, config, convert: str, pipeline) -> tuple[Head | None, bool]:
    """The head whose tensors a checkpoint has, and whether the tasks come from it.

    A pipeline of modules after the transformer makes an embedding model of any architecture; of a
    classifier only where `convert` asks for it. One that weighs words reads the logits of a masked
    language model, whatever the architecture is called.
    """
    follows = bool(pipeline and any(pipeline.chains))
    words = bool(pipeline and pipeline.sparse) and "MaskedLM" in family.heads
    native = family.heads.get("MaskedLM" if words else ending(config))
    bare = family.heads.get("Model")
    if convert in HEADS:
        if native and native.task.endswith("classify"):
            return native, True
        return _converted(family, config, convert), True
    if convert == "embed":
        return native or bare, False
    kind = defaults(architecture(config))[1]
    if native is None and kind == "classify":
        raise ValueError(
            f"{architecture(config)}: no such head is known for this family; "
            f'known: {sorted(family.heads)}. `convert="embed"` makes it an embedding model.'
        )
    if native and follows and native.task.endswith("classify") and convert == "auto":
        raise ValueError(
            f"modules.json pools tokens to an embedding, config.json names a classifier "
            f'({architecture(config)}): `convert` must say which, "embed" or "classify"'
        )
    if native is None or (follows and not native.task.endswith("classify")):
        return bare, bool(bare and bare.task)
    return native, bool(native.task)


def _converted(family: Family, config, convert: str) -> Head:
    for name in HEADS[convert]:
        if name in family.heads:
            return family.heads[name]
    raise ValueError(
        f"convert={convert!r}: {architecture(config)} has no such head; "
        f"its family knows: {sorted(family.heads)}"
    )


def sparse_embeddings(config) -> tuple[int, ...] | None:
    """The tokens left out where a model's embeddings are sparse; None for other models.

    vLLM's class of that name leaves out those that config.json names, if it names both.
    """
    if architecture(config) != "BertSpladeSparseEmbeddingModel":
        return None
    ids = [getattr(config, name, None) for name in ("cls_token_id", "sep_token_id")]
    named = tuple(i for i in ids if i is not None)
    return named if len(named) == len(ids) else ()
