"""Texts to token ids: the checkpoint's fast tokenizer and its truncation."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

import numpy as np
from tokenizers import Encoding, models, normalizers
from tokenizers import Tokenizer as Fast
from tokenizers.processors import TemplateProcessing

from jaxpool.errors import RequestError

log = logging.getLogger("jaxpool")

FEW = 32  # texts that the calling thread encodes by itself
NO_LIMIT = 10**9  # tokenizer_config.json says 1e30 where it knows no limit


class Tokens(NamedTuple):
    """One text or pair as the model reads it; `offsets` `[T, 2]` are characters, where asked.

    types: those of the tokens, None where all are zero; cut: whether truncation took some.
    """

    ids: np.ndarray
    types: np.ndarray | None = None
    offsets: np.ndarray | None = None
    cut: bool = False

    def take(self, index) -> "Tokens":
        """The tokens of an index or slice."""
        types, offsets = (None if x is None else x[index] for x in (self.types, self.offsets))
        return Tokens(self.ids[index], types, offsets, self.cut)

    def without_end(self, token: int) -> "Tokens":
        """All up to the last that is another token: no token of a causal model sees the rest."""
        others = np.flatnonzero(self.ids != token)
        return self.take(slice(0, int(others[-1]) + 1 if len(others) else 1))

    def after(self, prefix: str) -> "Tokens":
        """The tokens of a text behind a prefix, with offsets into the text alone."""
        if self.offsets is None:
            return self
        return self._replace(offsets=np.maximum(self.offsets - len(prefix), 0))


@dataclass(frozen=True)
class Facts:
    """What decides ids and is not in tokenizer.json.

    names: the special tokens by their role ("pad_token"); typed: whether the model reads token
    types; max_length: tokens of a text; side: the one that is cut; split: whether
    special tokens within a text are plain characters.
    """

    names: Mapping[str, str] = field(default_factory=dict)
    typed: bool = True
    max_length: int = NO_LIMIT
    side: str = "right"
    split: bool = False


class Tokenizer:
    """The tokenizer of a checkpoint folder: batches of texts in, `Tokens` out.

    What transformers makes of the folder's files is kept in `store`; from there it starts in
    milliseconds. Calls do not change the object, so any number of threads may share it. `bare`:
    tokenizer.json alone, without special tokens around a text; lower_case: texts are lowered first.
    """

    def __init__(
        self,
        folder: Path,
        lower_case: bool = False,
        bare: bool = False,
        store: Path | None = None,
    ):
        from converters.tokenizer import bare_tokenizer, read_tokenizer

        self.ended: str | None = None
        self.folder, self.lower_case, self.bare = folder, lower_case, bare
        self.fast, self.facts = bare_tokenizer(folder) if bare else read_tokenizer(folder, store)
        self.fast.no_padding()
        self.fast.no_truncation()
        self.fast.encode_special_tokens = self.facts.split
        if lower_case:
            rest = [] if self.fast.normalizer is None else [self.fast.normalizer]
            self.fast.normalizer = normalizers.Sequence([normalizers.Lowercase(), *rest])

    @cached_property
    def patterned(self) -> bool:
        """Whether texts meet regular expressions of the checkpoint, which may take long."""
        parts = [self.fast.normalizer, self.fast.pre_tokenizer]
        return any(b'"Regex"' in part.__getstate__() for part in parts if part is not None)

    @classmethod
    def of_nothing(cls, folder: Path) -> "Tokenizer":
        """That of a model which reads no texts: its vocabulary is empty."""
        made = cls.__new__(cls)
        made.ended, made.folder, made.lower_case, made.bare = None, folder, False, True
        made.fast, made.facts = Fast(models.WordLevel({}, unk_token="")), Facts()
        return made

    def end_texts(self) -> None:
        """Put the end-of-text token behind each text, where it is not yet."""
        token = self.facts.names.get("eos_token")
        end = (token, self.special("eos_token"))
        if None in end:
            raise ValueError("the end of text is to be added, and the tokenizer names no eos_token")
        if self.affixes[1][-1:] == [end[1]]:
            return
        before, after = ([(self.fast.id_to_token(i), i) for i in part] for part in self.affixes)
        single, second = (
            [*(f"{t}:{kind}" for t, _ in before), f"${text}:{kind}"]
            + [f"{t}:{kind}" for t, _ in (*after, end)]
            for kind, text in enumerate("AB")
        )
        specials = list(dict.fromkeys([*before, *after, end]))
        self.fast.post_processor = TemplateProcessing(single, [*single, *second], specials)
        del self.affixes  # they are others now
        self.ended = token
        log.warning(
            "%r is put after each text, as tokenizer_config.json or the caller says "
            "(add_eos_token=False turns it off)",
            token,
        )

    def keep(self, store: Path) -> None:
        """Write into a folder what later starts read in place of transformers."""
        from converters.tokenizer import read_tokenizer

        if not self.bare:
            read_tokenizer(self.folder, store)

    @cached_property
    def transformers(self):
        """The same tokenizer as a transformers object."""
        from converters.tokenizer import from_transformers

        return from_transformers(self.folder)

    @cached_property
    def config(self) -> dict:
        """tokenizer_config.json, over what special_tokens_map.json says."""
        from converters.tokenizer import special_tokens

        return special_tokens(self.folder)

    @property
    def max_length(self) -> int:
        """`model_max_length` of tokenizer_config.json; `NO_LIMIT` where it says nothing."""
        return self.facts.max_length

    @property
    def side(self) -> str:
        """The side that is cut where a text is too long, unless a call says otherwise."""
        return self.facts.side

    @cached_property
    def largest_id(self) -> int:
        """The largest id of the vocabulary."""
        return max(self.fast.get_vocab().values())

    @cached_property
    def longest_token(self) -> int:
        """Characters of the longest entry of the vocabulary."""
        return max(map(len, self.fast.get_vocab()))

    @cached_property
    def pad_id(self) -> int:
        """The id of the padding token; 0 where the checkpoint names none."""
        token = self._named("pad_token")
        return (self.id(token) if token else None) or 0

    @cached_property
    def mask_id(self) -> int:
        """The id of the mask token; of the end of text where the checkpoint names none."""
        token = self._named("mask_token") or self._named("eos_token")
        found = None if token is None else self.id(token)
        return self.pad_id if found is None else found

    def special(self, name: str) -> int | None:
        """The id of a special token by its name ("cls_token"); None where the files name none."""
        token = self._named(name)
        return self.id(token) if token else None

    def id(self, token: str) -> int | None:
        """The id of an entry of the vocabulary."""
        return self.fast.token_to_id(token)

    @cached_property
    def unknown(self) -> str | None:
        """The unknown token, if the tokenizer has one."""
        return self._named("unk_token")

    def _named(self, name: str) -> str | None:
        return self.facts.names.get(name)

    @cached_property
    def affixes(self) -> tuple[list[int], list[int]]:
        """The special tokens this tokenizer puts before and after a text."""
        encoding = self.fast.encode("a")
        content = [i for i, part in enumerate(encoding.sequence_ids) if part is not None]
        return encoding.ids[: content[0]], encoding.ids[content[-1] + 1 :]

    @cached_property
    def _typed_alone(self) -> bool:
        """Whether a text by itself has token types other than zero (XLNet)."""
        return any(self.fast.encode("a").type_ids)

    def spelled(self, token: str) -> np.ndarray:
        """The ids of a token's name read as plain characters."""
        plain = Fast.from_str(self.fast.to_str())
        plain.encode_special_tokens = True
        return np.array(plain.encode(token, add_special_tokens=False).ids, np.int32)

    def __call__(
        self,
        texts: Sequence[str] | Sequence[tuple[str, str]],
        truncate: int | None = None,
        side: str | None = None,
        special_tokens: bool = True,
        offsets: bool = False,
    ) -> list[Tokens]:
        """Each text or pair; `truncate` cuts to that many tokens, longest text of a pair first.

        Special tokens survive the cut, which happens at `side` ("left", "right", None for the
        tokenizer's own).
        """
        most = NO_LIMIT if truncate is None else truncate
        encodings = self._encode(list(texts), special_tokens, offsets)
        typed = self.facts.typed and (self._typed_alone or not all(type(t) is str for t in texts))
        found = []
        for encoding in encodings:
            ids = np.array(encoding.ids, np.int32)
            types = np.array(encoding.type_ids, np.int32) if typed else None
            where = np.array(encoding.offsets, np.int32).reshape(-1, 2) if offsets else None
            tokens = Tokens(ids, types, where)
            if len(ids) > most:
                kept = kept_tokens(encoding.sequence_ids, most, side or self.side)
                tokens = tokens.take(kept)._replace(cut=True)
            found.append(tokens)
        return found

    def _encode(self, texts: list, special_tokens: bool, offsets: bool) -> list[Encoding]:
        encode = self.fast.encode_batch if offsets else self.fast.encode_batch_fast
        # Several at once go to the library's threads, and to wake these takes longer than a few.
        parts = [texts] if len(texts) > FEW else [[text] for text in texts]
        try:
            return [e for part in parts for e in encode(part, add_special_tokens=special_tokens)]
        except Exception:
            raise
        except BaseException as error:
            # What the library panics about: a pattern of the checkpoint that gives up on a text.
            if type(error).__name__ != "PanicException":
                raise
            message = f"the checkpoint's tokenizer cannot read a text: {error}"
            raise RequestError(message) from error


def kept_tokens(sequence_ids: Sequence[int | None], limit: int, side: str) -> np.ndarray:
    """Indices of the tokens that truncation to `limit` leaves, as the `tokenizers` library does.

    `sequence_ids` has the text of each token, None for special ones, which all stay if they fit.
    """
    owner = np.array([-1 if part is None else part for part in sequence_ids])
    room = max(limit - int(np.sum(owner < 0)), 0)
    counts = longest_first(int(np.sum(owner == 0)), int(np.sum(owner == 1)), room)
    keep = owner < 0
    for part, count in enumerate(counts):
        places = np.flatnonzero(owner == part)
        keep[places[len(places) - count :] if side == "left" else places[:count]] = True
    return np.flatnonzero(keep)[:limit]


def longest_first(first: int, second: int, room: int) -> tuple[int, int]:
    """How many tokens of each text of a pair stay, cutting the longer one first."""
    if first + second <= room:
        return first, second
    short = min(first, second)
    long = max(short, room - short)
    if short + long > room:
        short, long = room // 2, room // 2 + room % 2
    return (short, long) if first <= second else (long, short)
