"""Published rerankers made of language models: their prompts, and the tokens they answer with."""

import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

from converters.files.folder import read_json
from converters.heads.answers import ONE, TWO
from jaxpool.scoring.apart import Apart
from jaxpool.scoring.listwise import Listwise
from jaxpool.scoring.template import ScoreTemplate, load_template


class Reranker(NamedTuple):
    """One kind of published reranker.

    template: the shipped prompt it was trained with; model_type: of config.json; name: a pattern
    of the last part of its id; tokens, method: its answers (see `answers`), none where the
    checkpoint has a classifier; defaults: `PoolerConfig` fields.
    """

    template: str
    model_type: str
    name: str
    tokens: tuple[str, ...] = ()
    method: str | None = None
    defaults: Mapping[str, Any] = MappingProxyType({})

    @property
    def origin(self) -> str:
        """Who says so, for `jaxpool info`."""
        return f"published {self.model_type} reranker"


# From the code on their model cards.
PUBLISHED = (
    Reranker("qwen3_reranker", "qwen3", r"^qwen3-reranker", ("no", "yes"), TWO),
    Reranker("qwen3_vl_reranker", "qwen3_vl", r"^qwen3-vl-reranker", ("no", "yes"), TWO),
    Reranker("zerank2", "qwen3", r"^zerank-2", ("Yes",), ONE, {"logit_sigma": 5.0}),
    Reranker("mxbai_rerank_v2", "qwen2", r"^mxbai-rerank-\w+-v2", ("0", "1"), TWO),
    Reranker("bge-reranker-v2-gemma", "gemma", r"^bge-reranker-v2-gemma", ("Yes",), ONE),
    Reranker("kalm-reranker", "t5gemma2", r"^kalm-reranker", ("no", "yes"), TWO),
    Reranker("nemotron-rerank", "llama", r"nemotron-rerank"),
    Reranker("nemotron-rerank", "llama_bidirec", r"nemotron-rerank"),
)
# By the architecture, whose head compares the vectors of marker tokens.
LISTWISE = {"JinaForRanking": ("jina-reranker-v3", Listwise("<|rerank_token|>", "<|embed_token|>"))}
# By the architecture, whose classifier reads a prompt.
WRITTEN = {
    "CostWiseGemmaForCausalLM": "bge-reranker-v2.5-gemma2-lightweight",
    "LayerWiseMiniCPMForCausalLM": "bge-reranker-v2-gemma",
    "JinaVLForRanking": "jina-reranker-m0",
    "LlamaNemotronVLForSequenceClassification": "nemotron-vl-rerank",
}
# By the architecture, whose decoder reads the vectors of documents.
APART = {"T5Gemma2ForConditionalGeneration": "<Document>: {}"}
JOINED = ScoreTemplate("{{ messages[0].content }}{{ messages[1].content }}")


class Found(NamedTuple):
    """A score template, what it is called, and the file or rule that chose it."""

    template: ScoreTemplate
    name: str
    origin: str


def find_published(model: str, config) -> Reranker | None:
    """The published reranker that a model is, by its name or (a renamed one) by its answers."""
    tokens = tuple(getattr(config, "classifier_from_token", None) or ())
    for row in PUBLISHED:
        named = re.search(row.name, own_name(model), re.IGNORECASE)
        if config.model_type == row.model_type and (named or (tokens and tokens == row.tokens)):
            return row
    return None


def own_name(model: str) -> str:
    """The last part of a Hub id or folder, and of the id that a snapshot in the Hub's cache has."""
    parts = Path(model).parts or ("",)
    if len(parts) > 2 and parts[-2] == "snapshots":
        return parts[-3].rpartition("--")[2]
    return parts[-1]


def find_template(checkpoint) -> Found | None:
    """The template of a checkpoint; None where query and document are a pair to the tokenizer.

    In order: the one sentence-transformers saved with a CrossEncoder, that of a published reranker,
    and for other classifiers made of a vocabulary's rows (vLLM's rule), both texts joined.
    """
    if saved := _saved(checkpoint.folder):
        return Found(saved, "chat_template.jinja", "sentence-transformers files")
    if row := checkpoint.reranker:
        # A prompt for a decoder has the beginning of a text in it.
        plain = checkpoint.architecture not in APART
        made = replace(load_template(row.template), special_tokens=plain)
        return Found(made, row.template, f"published {row.model_type} reranker")
    if checkpoint.architecture in LISTWISE:
        name, _ = LISTWISE[checkpoint.architecture]
        return Found(load_template(name), name, "architecture: a query with many documents")
    if name := WRITTEN.get(checkpoint.architecture, ""):
        return Found(load_template(name), name, "architecture")
    tokens = getattr(checkpoint.config, "classifier_from_token", None)
    if getattr(checkpoint.config, "use_sep_token", not tokens):
        return None
    return Found(JOINED, "both texts joined", "config.json: classifier_from_token")


def find_listwise(checkpoint) -> Listwise | None:
    """How a listwise reranker is asked; None for other models."""
    _, found = LISTWISE.get(checkpoint.architecture, ("", None))
    return found if checkpoint.uses_head else None


def find_apart(checkpoint) -> Apart | None:
    """How documents are read by themselves, for a decoder's prompts; None for other models."""
    if checkpoint.architecture not in APART or not checkpoint.uses_head:
        return None
    # Unless a caller says otherwise, as many tokens become one vector as on KaLM-Reranker's card.
    chunk = getattr(checkpoint.config, "chunk_size", 4) or 1
    return Apart(APART[checkpoint.architecture], chunk)


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
