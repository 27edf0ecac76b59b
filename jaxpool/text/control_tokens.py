"""Texts in which control tokens are text: what a user writes never steers a chat template.

A control token in a value of a template is put between two private characters before the prompt is
rendered; what lies between them is then encoded as plain text. transformers'
`apply_chat_template` does so where `sanitize_control_tokens` asks for it.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from tokenizers import AddedToken
from tokenizers import Tokenizer as Fast

from jaxpool.errors import RequestError

START, END = "\U000f0000", "\U000f0001"


def control_tokens(fast: Fast, template: str) -> list[str]:
    """The tokens that a template may write and a text may not."""
    added = fast.get_added_tokens_decoder().values()
    return [t.content for t in added if t.special or _written(t.content, template)]


def _written(token: str, template: str) -> bool:
    return token in template and not token.isspace()  # Gemma has added tokens of line breaks


def _pattern(tokens: Iterable[str]) -> str:
    return "|".join(map(re.escape, sorted(tokens, key=len, reverse=True))) or "(?!)"


def marked(value: Any, tokens: Iterable[str]) -> Any:
    """A value of a template (JSON) with every control token in its texts between the marks."""
    pattern = re.compile(_pattern(tokens))

    def mark(value: Any) -> Any:
        if isinstance(value, str):
            plain = value.replace(START, "").replace(END, "")
            return pattern.sub(lambda found: START + found[0] + END, plain)
        if isinstance(value, Mapping):
            return {key: mark(one) for key, one in value.items()}
        return [mark(one) for one in value] if isinstance(value, list | tuple) else value

    return mark(value)


class Reader(NamedTuple):
    """A tokenizer, and the same one to which special tokens in a text are plain characters."""

    fast: Fast
    plain: Fast

    @classmethod
    def of(cls, fast: Fast, special: Sequence[str] = ()) -> "Reader":
        """Copies of a tokenizer that know some more special tokens."""
        both = Fast.from_str(fast.to_str()), Fast.from_str(fast.to_str())
        for one in both:
            one.add_special_tokens([AddedToken(token, normalized=False) for token in special])
        both[1].encode_special_tokens = True
        return cls(*both)

    def encode(self, text: str) -> list[int]:
        """The ids of a rendered prompt; tokens between the marks are plain text."""
        tokens = [token.content for token in self.fast.get_added_tokens_decoder().values()]
        first, *rest = re.split(f"{START}({_pattern(tokens)}){END}|[{START}{END}]", text)
        ids = _ids(self.fast, first)
        for number, piece in enumerate(rest):
            if piece:
                ids += self._inner(piece, plain=number % 2 == 0)
        return ids

    def _inner(self, piece: str, plain: bool) -> list[int]:
        """The ids of a piece with text before it: SentencePiece puts a space before the first."""
        fast = self.plain if plain else self.fast
        line, found = _ids(self.fast, "\n"), _ids(fast, "\n" + piece)
        found = found[len(line) :] if found[: len(line)] == line else _ids(fast, piece)
        if plain and fast.token_to_id(piece) in found:
            raise RequestError(f"{piece!r} cannot be read as text by this tokenizer")
        return found


def _ids(fast: Fast, text: str) -> list[int]:
    return fast.encode(text, add_special_tokens=False).ids
