"""What a folder says of decisions: decision.json, decision_template.jinja, the labels' tokens."""

from dataclasses import replace
from pathlib import Path

from tokenizers import Tokenizer

from converters.files.folder import read_json
from converters.report import CheckpointError
from jaxpool.tasks.decisions import KINDS, DecisionSettings

FILE, TEMPLATE = "decision.json", "decision_template.jinja"


def decides(folder: Path, convert: str) -> bool:
    """Whether a folder is a decision model's, or one is to be made of it."""
    named = any((folder / name).is_file() for name in (FILE, TEMPLATE))
    return convert == "decide" or (named and convert == "auto")


def read_decisions(folder: Path) -> tuple[DecisionSettings, list[int]]:
    """The settings of a folder, the generic ones without files, and the ids of its labels."""
    saved = read_json(folder / FILE, default={})
    if saved.get("adapter"):
        raise CheckpointError(
            f"{FILE}: its adapter lies in {saved['adapter']!r}; name that folder as lora_path"
        )
    order = saved.get("noul_options") or ["true", "false"]
    if sorted(order) != ["false", "true"]:
        raise CheckpointError(f"{FILE}: noul_options must order true and false, found {order}")
    template = folder / TEMPLATE
    made = DecisionSettings(
        labels=saved.get("labels") or {},
        temperature=saved.get("temperature") or {},
        chat_template=template.read_text(encoding="utf-8") if template.is_file() else None,
        noul_options=tuple(order),
        sanitize=saved.get("sanitize_control_tokens", True),
    )
    return _with_columns(made, folder)


def _with_columns(made: DecisionSettings, folder: Path) -> tuple[DecisionSettings, list[int]]:
    file = folder / "tokenizer.json"
    if not file.is_file():
        raise CheckpointError(f"decisions need tokenizer.json in {folder}")
    found: dict[str, int] = {}
    tokenizer = Tokenizer.from_file(str(file))
    tokenizer.no_padding()
    for label in dict.fromkeys(label for kind in KINDS for label in made.labels_of(kind)):
        ids = tokenizer.encode(label, add_special_tokens=False).ids
        if len(ids) == 1 and ids[0] not in found.values():
            found[label] = ids[0]
    columns = {label: column for column, label in enumerate(found)}
    return replace(made, columns=columns), list(found.values())
