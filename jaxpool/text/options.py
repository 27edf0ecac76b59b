"""`Tokenization`: how a call tokenizes: truncation, padding, case, special tokens."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from jaxpool.errors import RequestError
from jaxpool.text.tokenizer import Tokenizer, Tokens

log = logging.getLogger("jaxpool")

NAMES = {
    "truncate_prompt_tokens": "truncate",
    "truncation_side": "side",
    "pad_prompt_tokens": "pad",
    "do_lower_case": "lower_case",
    "add_special_tokens": "special_tokens",
}
SWITCHES = (
    ("truncation", "truncate", (True, "longest_first"), (False, "do_not_truncate")),
    ("padding", "pad", ("max_length",), (False, "do_not_pad")),
)


@dataclass(frozen=True)
class Tokenization:
    """How texts become ids: `tokenization_kwargs`, checked.

    limit: the most tokens of a request; longest: the most of one forward; truncate, pad: the
    length to cut or pad to, None to do neither;
    side: where truncation cuts. A named side cuts the finished ids, special tokens included;
    without one the tokenizer cuts the text and keeps them.
    """

    limit: int
    truncate: int | None = None
    side: str | None = None
    pad: int | None = None
    lower_case: bool = False
    special_tokens: bool = True
    longest: int | None = None

    @classmethod
    def of(
        cls, options: Mapping[str, Any] | None, limit: int, longest: int | None = None
    ) -> "Tokenization":
        """Read `tokenization_kwargs` of a call; without `longest`, it is `limit`."""
        given = {name: value for name, value in (options or {}).items() if value is not None}
        length = given.pop("max_length", longest or limit)
        found = {ours: given.pop(name) for name, ours in NAMES.items() if name in given}
        for name, ours, on, off in SWITCHES if given else ():
            if name in given and given[name] in (*on, *off):
                found[ours] = length if given.pop(name) in on else None
        given.pop("needs_detokenization", None)
        if given:
            log.warning("tokenization arguments that are not supported and ignored: %s", given)
        return cls(limit, longest=longest, **found)

    def shorter(self, limit: int | None) -> "Tokenization":
        """The same, truncating at `limit` too."""
        known = [n for n in (self.truncate, limit) if n is not None]
        return replace(self, truncate=min(known, default=None))

    def __post_init__(self):
        if self.side not in (None, "left", "right"):
            message = "`truncation_side` must be either 'left' or 'right'."
            raise RequestError(message, "truncation_side", self.side)
        if self.truncate is not None and self.truncate > (self.longest or self.limit):
            raise RequestError(
                "truncate_prompt_tokens value is greater than max_model_len. "
                "Please request a smaller truncation size."
            )
        most = self.longest or self.limit
        if self.pad is not None and self.pad > most:
            raise RequestError(f"padding to {self.pad} tokens is beyond the model's {most}")
        for name, whole in (("truncate", self.limit), ("pad", most)):
            value = getattr(self, name)
            if value is not None and value < 0:
                object.__setattr__(self, name, whole)

    def encode(self, tokenizer: Tokenizer, texts: Sequence, offsets: bool = False) -> list[Tokens]:
        """The tokens of texts or pairs, truncated."""
        self._check_characters(tokenizer, texts)
        if self.lower_case:
            texts = [t.lower() if isinstance(t, str) else tuple(map(str.lower, t)) for t in texts]
        side = self.side
        truncate = self.truncate if side is None else None
        try:
            whole = tokenizer(texts, truncate, None, self.special_tokens, offsets)
        except TypeError as error:  # how the tokenizers library says that a text is none
            raise _not_text(texts) or error from None
        return whole if side is None else [self._slice(tokens, side) for tokens in whole]

    def of_ids(self, tokenizer: Tokenizer, ids: Sequence[int]) -> Tokens:
        """Token ids given by the caller, truncated."""
        if beyond := [i for i in ids if not -(2**31) <= i < 2**31]:
            raise RequestError(f"Token id {beyond[0]} is out of vocabulary")
        return self._slice(Tokens(np.array(ids, np.int32)), self.side or tokenizer.side)

    def _slice(self, tokens: Tokens, side: str) -> Tokens:
        count, wanted = len(tokens.ids), self.truncate
        if wanted is None or wanted >= count:
            return tokens
        kept = slice(count - wanted, None) if side == "left" else slice(0, wanted)
        return tokens.take(kept)._replace(cut=True)

    def padded(self, tokens: Tokens, tokenizer: Tokenizer) -> Tokens:
        """`tokens` with padding tokens that count, as `padding="max_length"` asks."""
        more = (self.pad or 0) - len(tokens.ids)
        if more <= 0:
            return tokens
        return Tokens(
            np.pad(tokens.ids, (0, more), constant_values=tokenizer.pad_id),
            None if tokens.types is None else np.pad(tokens.types, (0, more)),
            None if tokens.offsets is None else np.pad(tokens.offsets, ((0, more), (0, 0))),
            tokens.cut,
        )

    def _check_characters(self, tokenizer: Tokenizer, texts: Sequence) -> None:
        if self.truncate is not None:
            return
        for text in texts:
            count = len(text) if isinstance(text, str) else sum(map(len, text))
            if count <= self.limit or count <= self.limit * tokenizer.longest_token:
                continue
            most = self.limit * tokenizer.longest_token
            raise RequestError(
                f"This model's maximum context length is {self.limit} tokens. However, your "
                f"prompt contains {count} characters (more than {most} characters, which is the "
                f"upper bound for {self.limit} input tokens). "
                "Please reduce the length of the input prompt.",
                "input_text",
                count,
            )


def _not_text(texts: Sequence) -> RequestError | None:
    """The error of half of a surrogate pair (UTF-16) in a text."""
    for number, text in enumerate(texts):
        try:
            "".join(text).encode()
        except UnicodeEncodeError as error:
            half = error.object[error.start]
            return RequestError(f"prompt {number} is no text: half of a surrogate pair, {half!a}")
    return None
