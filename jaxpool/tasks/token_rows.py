"""Which of a text's token rows count, where a task does not return them all.

Special tokens are named as tokenizers name them ("cls_token", ...); a name that the tokenizer
does not know leaves nothing out.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from jaxpool.errors import RequestError


@dataclass(frozen=True)
class Inner:
    """All but the special token that a text begins with, and the one that it ends with."""

    first: str
    last: str = ""

    def keep(self, ids: np.ndarray, tokenizer) -> np.ndarray:
        """The rows of some token ids `[T]` that are returned."""
        start = int(ids[0] == tokenizer.special(self.first))
        end = len(ids) - int(ids[-1] == tokenizer.special(self.last))
        return np.arange(start, end)

    def gather(self, ids: np.ndarray, rows: np.ndarray) -> np.ndarray:
        """What is returned of the kept rows `[T, F]`: themselves, or `[T]` of one number each."""
        return rows[:, 0] if rows.shape[1] == 1 else rows


@dataclass(frozen=True)
class Words:
    """Weights of tokens `[T, 1]` become one vector over the vocabulary, special tokens left out."""

    vocab: int
    omitted: tuple[str, ...]

    def keep(self, ids: np.ndarray, tokenizer) -> np.ndarray:
        """The rows of some token ids `[T]` that are weighed."""
        special = [tokenizer.special(name) for name in self.omitted]
        return np.flatnonzero(~np.isin(ids, [i for i in special if i is not None]))

    def gather(self, ids: np.ndarray, rows: np.ndarray) -> np.ndarray:
        """The greatest weight of each id: `[T, 1] -> [V]`, zero for words that do not occur."""
        # Large, but the system backs only those of its pages that are written to.
        vector = np.zeros(self.vocab, np.float32)
        np.maximum.at(vector, ids, rows[:, 0])
        return vector


@dataclass(frozen=True)
class Labelled:
    """The tokens that stand for labels in one prompt with a text; of each a number comes out.

    token: the one before a label, spelled `label`; separator: what ends the labels; first: whether
    they come before the text, or after it.
    """

    token: int
    label: str
    separator: str
    first: bool = True

    def prompt(self, text: str, labels: Sequence[str]) -> str:
        """The prompt of a text and its labels."""
        before = "".join(self.label + label for label in labels) + self.separator
        return before + text if self.first else text + before

    def keep(self, ids: np.ndarray, tokenizer) -> np.ndarray:
        """The rows of some token ids `[T]` that stand for labels."""
        found = np.flatnonzero(ids == self.token)
        if not len(found):
            raise RequestError("this model scores labels: name them as `labels`", "labels")
        return found

    def gather(self, ids: np.ndarray, rows: np.ndarray) -> np.ndarray:
        """A number a label, `[labels]` of `[labels, 1]`."""
        return rows[:, 0]


@dataclass(frozen=True)
class Spanned:
    """The words of a text behind its labels, of each of which come scores of spans.

    token: the one before a label, spelled `label`; separator: what ends the labels; words: the
    most of a text.
    """

    token: int
    label: str
    separator: str
    words: int

    def prompt(self, labels: Sequence[str]) -> list[str]:
        """The words that come before a text."""
        each = [[self.label, label] if label else [self.label] for label in labels]
        return [*(word for words in each for word in words), self.separator]

    def keep(self, ids: np.ndarray, tokenizer) -> np.ndarray:
        """All rows: a call keeps those of words."""
        if self.token not in ids:
            raise RequestError("this model scores labels: name them as `labels`", "labels")
        return np.arange(len(ids))

    def gather(self, ids: np.ndarray, rows: np.ndarray) -> np.ndarray:
        """The rows as they are."""
        return rows
