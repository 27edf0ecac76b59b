"""Which score template a reranker was trained with, by the facts that tell it apart."""

import re
from pathlib import Path
from typing import NamedTuple

from converters.files import read_json
from jaxpool.score_template import ScoreTemplate, load_template


class Trained(NamedTuple):
    """Published rerankers of one template.

    model_type: of config.json; name: a pattern of their Hub ids; tokens: the vocabulary entries
    they answer with (`classifier_from_token`), which tell renamed copies.
    """

    template: str
    model_type: str
    name: str
    tokens: tuple[str, ...] = ()


TRAINED = (
    Trained("qwen3_reranker", "qwen3", r"qwen3-reranker", ("no", "yes")),
    Trained("zerank2", "qwen3", r"zerank-2"),
    Trained("mxbai_rerank_v2", "qwen2", r"mxbai-rerank-\w+-v2", ("0", "1")),
    Trained("bge-reranker-v2-gemma", "gemma", r"bge-reranker-v2-gemma", ("Yes",)),
    Trained("nemotron-rerank", "llama", r"nemotron-rerank"),
    Trained("nemotron-rerank", "llama_bidirec", r"nemotron-rerank"),
)
JOINED = ScoreTemplate("{{ messages[0].content }}{{ messages[1].content }}")


def find_template(model: str, folder: Path, config) -> ScoreTemplate | None:
    """The template of a checkpoint; None where query and document are a pair to the tokenizer.

    In order: the one sentence-transformers saved with a CrossEncoder, that of a known reranker
    (by the facts of its `config`, or its name in `model`), and for other classifiers made of a
    vocabulary's rows, both texts joined.
    """
    saved = _saved(folder)
    if saved is not None:
        return saved
    tokens = tuple(getattr(config, "classifier_from_token", None) or ())
    for row in TRAINED:
        named = re.search(row.name, model, re.IGNORECASE)
        if config.model_type == row.model_type and (named or (tokens and tokens == row.tokens)):
            return load_template(row.template)
    return None if getattr(config, "use_sep_token", not tokens) else JOINED


def _saved(folder: Path) -> ScoreTemplate | None:
    """The chat template of a CrossEncoder whose Transformer module reads messages."""
    settings = read_json(folder / "config_sentence_transformers.json", default={})
    modules = read_json(folder / "modules.json", default=[])
    if settings.get("model_type") != "CrossEncoder" or not modules:
        return None
    base = folder / modules[0].get("path", "")
    module = read_json(base / "sentence_bert_config.json", default={})
    file = base / "chat_template.jinja"
    if "message" not in module.get("modality_config", {}) or not file.is_file():
        return None
    options = module.get("processing_kwargs", {}).get("chat_template", {})
    return ScoreTemplate(
        file.read_text(encoding="utf-8"),
        special_tokens=False,
        structured=module["modality_config"]["message"].get("format") == "structured",
        system=settings.get("prompts", {}).get(settings.get("default_prompt_name")),
        # what is left is sentence-transformers' own
        options={name: value for name, value in options.items() if name != "restore_suffix"},
    )
