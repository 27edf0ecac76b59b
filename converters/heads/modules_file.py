"""sentence-transformers' own files for a checkpoint that had none: modules.json and the like."""

import json
from pathlib import Path

from converters.files.folder import read_json

KIND = "sentence_transformers.models."
POOLINGS = {
    "cls": "pooling_mode_cls_token",
    "mean": "pooling_mode_mean_tokens",
    "max": "pooling_mode_max_tokens",
    "mean_sqrt_len_tokens": "pooling_mode_mean_sqrt_len_tokens",
    "weightedmean": "pooling_mode_weightedmean_tokens",
    "lasttoken": "pooling_mode_lasttoken",
}


def add_modules(folder: Path, checkpoint, max_length: int, prompts: dict[str, str]) -> None:
    """Write what `folder` lacks: Transformer, Pooling and Normalize, prompts, the similarity.

    Prompts of a run are added to those of the base.
    """
    if not (folder / "modules.json").is_file():
        modules = {"Transformer": "", "Pooling": "1_Pooling", "Normalize": "2_Normalize"}
        listed = [
            {"idx": i, "name": str(i), "path": path, "type": KIND + name}
            for i, (name, path) in enumerate(modules.items())
        ]
        _write(folder / "modules.json", listed)
        pooling = {mode: kind == checkpoint.pool for kind, mode in POOLINGS.items()}
        size = {"word_embedding_dimension": checkpoint.arch.dim, "include_prompt": True}
        _write(folder / "1_Pooling" / "config.json", size | pooling)
        (folder / "2_Normalize").mkdir(exist_ok=True)
        bert = {"max_seq_length": max_length, "do_lower_case": False}
        _write(folder / "sentence_bert_config.json", bert)
    file = folder / "config_sentence_transformers.json"
    settings: dict = {"prompts": {}, "default_prompt_name": None, "similarity_fn_name": "cosine"}
    settings |= read_json(file, default={})
    settings["prompts"] = (settings.get("prompts") or {}) | prompts
    _write(file, settings)


def _write(path: Path, content) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content, indent=2), encoding="utf-8")
