"""What the normalizers of a tokenizer may make of a text: a few times its length, and no more.

A tokenizer.json is data, but forty rules that each double a text fill any memory with one word.
"""

import base64
import binascii
from collections.abc import Iterator, Mapping

from converters.report import CheckpointError

MOST = 64  # times its length; NFKC makes 18 characters of one


def check_growth(written: Mapping) -> None:
    """Refuse the content of a tokenizer.json whose rules could make more of a text than `MOST`."""
    for part in ("normalizer", "pre_tokenizer", "decoder"):
        growth = 1.0
        for rule in _rules(written.get(part)):
            growth *= max(1.0, _growth(rule))
            if growth > MOST:
                raise CheckpointError(
                    f"tokenizer.json: its {part} could make a text more than {MOST} times as long"
                )


def _rules(part) -> Iterator[Mapping]:
    if isinstance(part, Mapping):
        yield part
        for value in part.values():
            yield from _rules(value)
    elif isinstance(part, list):
        for value in part:
            yield from _rules(value)


def _growth(rule: Mapping) -> float:
    """How many times as long a rule can make a text."""
    if rule.get("type") == "Replace":
        pattern, content = rule.get("pattern"), str(rule.get("content"))
        whole = (
            str(pattern["String"]) if isinstance(pattern, Mapping) and "String" in pattern else ""
        )
        return len(content) / max(len(whole), 1)
    if rule.get("type") == "Prepend":
        return (1 + len(str(rule.get("prepend")))) / 2
    if rule.get("type") == "Precompiled":
        return _longest(rule.get("precompiled_charsmap"))
    return 1


def _longest(charsmap) -> int:
    """The longest replacement in a character map of SentencePiece: behind its trie, NUL between."""
    try:
        content = base64.b64decode(charsmap or "")
    except (TypeError, binascii.Error) as error:
        raise CheckpointError(f"tokenizer.json: precompiled_charsmap: {error}") from error
    trie = int.from_bytes(content[:4], "little")
    return max(len(part.decode(errors="replace")) for part in content[4 + trie :].split(b"\0"))
