"""Entity spans from token classes (named-entity recognition), as transformers' pipeline joins them.

Tokens of one word first agree on a class ("first": that of its first token, "max": that of its
surest token, "average": that of the mean probabilities; "simple" leaves tokens alone), then
neighbours of one class become a span; B- starts a new one, I- and bare classes continue.
"""

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from itertools import groupby

import numpy as np

STRATEGIES = ("none", "simple", "first", "average", "max")


@dataclass(frozen=True)
class Entity:
    """A labelled span of a text: characters `start` to `end`; score is a mean probability."""

    label: str
    score: float
    start: int
    end: int
    text: str


@dataclass
class Word:
    """One token, or the tokens of a word: what is labelled as one."""

    probs: list[np.ndarray]
    start: int
    end: int


def entities(
    text: str,
    ids: np.ndarray,
    offsets: np.ndarray,
    probs: np.ndarray,
    tokenizer,
    labels: dict[int, str],
    strategy: str = "simple",
    ignore: Collection[str] = ("O",),
) -> list[Entity]:
    """The spans of one text, from its tokens' class probabilities `[T, C]`.

    offsets `[T, 2]` are the characters of each token (nothing for special tokens).
    """
    if strategy not in STRATEGIES:
        raise ValueError(f"unknown aggregation {strategy!r}; known: {', '.join(STRATEGIES)}")
    real = [i for i in range(len(ids)) if offsets[i][0] < offsets[i][1]]
    words: list[Word] = []
    for i in real:
        start, end = map(int, offsets[i])
        by_word = strategy not in ("none", "simple")
        if by_word and words and continues(text, start, end, int(ids[i]), tokenizer):
            words[-1].probs.append(probs[i])
            words[-1].end = end
        else:
            words.append(Word([probs[i]], start, end))
    tagged = [(*_label(word.probs, strategy), word) for word in words]
    spans = ([one] for one in tagged) if strategy == "none" else _spans(tagged, labels)
    found = [_entity(text, span, labels, strategy) for span in spans]
    return [entity for entity in found if entity.label not in ignore]


def continues(text: str, start: int, end: int, token: int, tokenizer) -> bool:
    """Whether a token goes on with the word before it: by its prefix ("##"), else by spaces."""
    piece = tokenizer.fast.id_to_token(token)
    if piece == tokenizer.unknown:
        return False
    if getattr(tokenizer.fast.model, "continuing_subword_prefix", None):
        return len(piece) != end - start
    return start > 0 and " " not in text[start - 1 : start + 1]


def _label(probs: Sequence[np.ndarray], strategy: str) -> tuple[int, float]:
    chosen = probs[0]
    if strategy == "max":
        chosen = max(probs, key=np.max)
    elif strategy == "average":
        chosen = np.mean(probs, axis=0)
    return int(np.argmax(chosen)), float(np.max(chosen))


def _spans(tagged: Sequence[tuple], labels: dict[int, str]) -> Iterable[list[tuple]]:
    """Neighbours of one class, cut where a B- label begins."""
    number, last = 0, None
    numbered = []
    for one in tagged:
        label = labels[one[0]]
        if label.startswith("B-") or _kind(label) != last:
            number += 1
        last = _kind(label)
        numbered.append((number, one))
    return ([one for _, one in group] for _, group in groupby(numbered, key=lambda pair: pair[0]))


def _kind(label: str) -> str:
    return label[2:] if label.startswith(("B-", "I-")) else label


def _entity(text: str, span: list[tuple], labels: dict[int, str], strategy: str) -> Entity:
    label = labels[span[0][0]]
    label = label if strategy == "none" else label.split("-", 1)[-1]
    start, end = span[0][2].start, span[-1][2].end
    return Entity(label, float(np.mean([one[1] for one in span])), start, end, text[start:end])
