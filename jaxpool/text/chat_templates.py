"""The chat templates of a tokenizer's folder, by name; "default" is used unless one is named."""

from functools import cache
from pathlib import Path

import orjson


@cache
def chat_templates(folder: Path) -> dict[str, str]:
    """Those in tokenizer_config.json (one text, or a list of named ones) and in files beside it.

    chat_template.jinja and additional_chat_templates/NAME.jinja, where transformers saves them
    since 2025, come before it, as there; chat_template.json is how processors had theirs.
    """
    found: dict[str, str] = {}
    for name in ("tokenizer_config.json", "chat_template.json"):
        file = folder / name
        saved = orjson.loads(_text(file)).get("chat_template") if file.is_file() else None
        if isinstance(saved, str):
            saved = {"default": saved}
        elif isinstance(saved, list):
            saved = {one["name"]: one["template"] for one in saved}
        found |= saved or {}
    others = sorted((folder / "additional_chat_templates").glob("*.jinja"))
    found |= {file.stem: _text(file) for file in others}
    own = folder / "chat_template.jinja"
    return found | ({"default": _text(own)} if own.is_file() else {})


def _text(file: Path) -> str:
    return file.read_text(encoding="utf-8-sig")
