"""sentence-transformers' Transformer module: its file says which method of a model reads what.

Version 5.4 and later save `transformer_task`, `modality_config` and `processing_kwargs`; what they
ask is applied, or refused by its name.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from converters.files.folder import read_json
from converters.images import CHANGEABLE
from converters.report import CheckpointError

# Whose name the file has in older folders; the first that is there counts.
FILES = ("bert", "roberta", "distilbert", "camembert", "albert", "xlm-roberta", "xlnet")
# By task and method: what is taken of the method's outputs, and the name that it gets.
LOGITS = {"sequence-classification": "scores", "fill-mask": "token_embeddings"}
LOGITS |= dict.fromkeys(("text-generation", "any-to-any"), "causal_logits")
OUTPUTS = {
    ("feature-extraction", "forward"): ("last_hidden_state", "token_embeddings"),
    ("feature-extraction", "get_text_features"): ("pooler_output", "sentence_embedding"),
    ("feature-extraction", "get_image_features"): ("pooler_output", "sentence_embedding"),
    ("retrieval", "forward"): ("embeddings", "token_embeddings"),
} | {(task, "forward"): ("logits", name) for task, name in LOGITS.items()}
READ = ("text", "image", "image+text", "text+image", "message")  # others are refused as inputs
SIZES = ("padding", "truncation", "max_length", "return_tensors")  # chat_template may have them too
# Values that change nothing here: rows are padded without being seen, texts cut at their end.
WITHOUT_EFFECT: dict[str, tuple] = {
    "truncation": (True, "longest_first", "only_first"),
    "add_special_tokens": (True,),
    "logits_to_keep": (0, 1),
    "restore_suffix": (True,),
}
ANY_VALUE = {"padding", "padding_side", "pad_to_multiple_of", "return_tensors", "max_length"}
# What the arguments of from_pretrained may have that changes no vector.
LOADING = {
    "model": {"dtype", "torch_dtype", "attn_implementation", "device_map", "low_cpu_mem_usage"}
    | {"use_safetensors"},
    "config": {"use_cache", "torch_dtype", "dtype"},
    "processor": {"model_max_length", "padding_side", "use_fast", "backend"},
}
OLDER = {"model": "model_args", "config": "config_args", "processor": "tokenizer_args"}


@dataclass(frozen=True)
class Chat:
    """That texts are messages of a chat template; structured: their contents are lists of parts."""

    structured: bool = True
    options: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class TransformerModule:
    """What the file says.

    max_length: tokens of a text; chat: where texts are put into messages; images: fields in the
    place of preprocessor_config.json's.
    """

    max_length: int | None = None
    lower_case: bool = False
    chat: Chat | None = None
    images: Mapping[str, Any] = field(default_factory=dict)


def read_transformer(folder: Path) -> TransformerModule:
    """The module of a folder; what is not known of it is a CheckpointError."""
    files = (folder / f"sentence_{name}_config.json" for name in FILES)
    config: dict[str, Any] = next(filter(None, (read_json(f, default={}) for f in files)), {})
    own = dict(config.get("modality_config") or {})
    _check_outputs(config, own)
    lengths = [config.get("max_seq_length"), *_check_loading(config)]
    processing = config.get("processing_kwargs") or {}
    chat = dict(processing.get("chat_template") or {})
    sizes = {name: chat.pop(name) for name in SIZES if name in chat}
    sizes |= {"restore_suffix": chat.pop("restore_suffix", True)}
    text = {**(processing.get("text") or {}), **sizes}
    for name, value in [*(processing.get("common") or {}).items(), *text.items()]:
        if name not in ANY_VALUE and value not in WITHOUT_EFFECT.get(name, ()):
            raise _refused(f"processing_kwargs: {name}", WITHOUT_EFFECT.get(name), value)
    images = processing.get("image") or {}
    if unknown := sorted(images.keys() - CHANGEABLE):
        raise _refused("processing_kwargs: image", sorted(CHANGEABLE), unknown)
    message = own.get("message")
    return TransformerModule(
        next(filter(None, [text.get("max_length"), *lengths]), None),
        bool(config.get("do_lower_case", False)),
        Chat(message.get("format") != "flat", chat) if message else None,
        images,
    )


def _check_outputs(config: Mapping, modalities: Mapping[str, Mapping]) -> None:
    task = config.get("transformer_task", "feature-extraction")
    if task not in {known for known, _ in OUTPUTS}:
        raise _refused("transformer_task", sorted({known for known, _ in OUTPUTS}), task)
    for name in READ:
        if not (asked := modalities.get(name)):
            continue
        method, output = asked.get("method"), asked.get("method_output_name")
        output = output[0] if isinstance(output, list) and len(output) == 1 else output
        found = OUTPUTS.get((task, str(method)))
        if found is None:
            known = [one for of, one in OUTPUTS if of == task]
            raise _refused(f"modality_config: {name}: method", known, method)
        wanted, called = found
        if output != wanted and not (output is None and wanted == "pooler_output"):
            raise _refused(f"modality_config: {name}: method_output_name", wanted, output)
        if (given := config.get("module_output_name", called)) != called:
            raise _refused("module_output_name", called, given)


def _check_loading(config: Mapping) -> list[int | None]:
    """Refuse arguments of from_pretrained that change the model; returns the length they name."""
    for kind, known in LOADING.items():
        given = config.get(f"{kind}_kwargs") or config.get(OLDER[kind]) or {}
        # sentence-transformers itself takes no trust_remote_code from a file
        if unknown := sorted(given.keys() - known - {"trust_remote_code"}):
            raise _refused(f"{kind}_kwargs", sorted(known), unknown)
    given = config.get("processor_kwargs") or config.get("tokenizer_args") or {}
    return [given.get("model_max_length")]


def _refused(what: str, wanted: Any, found: Any) -> CheckpointError:
    return CheckpointError(
        f"sentence_bert_config.json: {what} must be {wanted or 'absent'}, found {found!r}"
    )
