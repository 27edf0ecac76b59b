"""Entities of labels that a call names: spans of words, for models that score these (GLiNER)."""

import re
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np

from jaxpool.errors import RequestError
from jaxpool.heads.spans import LABELS, Marks
from jaxpool.scoring.parts import Pair, Part, Scoring
from jaxpool.scoring.zero_shot import Labels
from jaxpool.tasks.entities import Entity
from jaxpool.tasks.task import Task
from jaxpool.tasks.token_rows import Spanned
from jaxpool.tasks.validate import resolve_params
from jaxpool.text.limits import check_tokens
from jaxpool.text.prepared import Prepared
from jaxpool.text.request import requests
from jaxpool.text.tokenizer import Tokens

WORD = re.compile(r"\w+(?:[-_]\w+)*|\S")


def prepare_spans(
    model,
    texts: str | Sequence[str],
    labels: Sequence[str],
    threshold: float = 0.5,
    nested: bool = False,
) -> Scoring:
    """The entities of each text: `combine` gives a list of `Entity` each, by their places.

    threshold: the least probability of one; nested: whether entities may lie within others. Of
    spans that overlap the likeliest stays. A text longer than the model's words is cut there; words
    of which the tokenizer makes nothing count as none. Raises before anything is computed.
    """
    texts, names = [texts] if isinstance(texts, str) else list(texts), Labels(labels).names
    if not all(isinstance(text, str) for text in texts):
        raise RequestError("entities are spans of characters: every prompt must be a text")
    task = _roomy(model.task("token_classify"), len(names))
    (params,) = resolve_params(model, task, None, 1)
    made, places = [], []
    for text in texts:
        one, words = _request(model, task, params, text, names)
        made.append(one)
        places.append(words)
    pairs = [Pair(str(i), one.ids.tolist()) for i, one in enumerate(made)]
    marked = isinstance(task.steps[0], Marks)
    find = partial(_entities, labels=names, threshold=threshold, nested=nested, marked=marked)

    def combine(results: Sequence[np.ndarray]) -> Any:
        return [find(*each) for each in zip(texts, places, results, strict=True)]

    return Scoring((Part(task, made),), pairs, combine)


def _roomy(task: Task, count: int) -> Task:
    """The same task with room for so many labels; few sizes, so that programs are few."""
    if not isinstance(task.rows, Spanned):
        raise RequestError("labels of entities are for models that score spans (GLiNER)", "labels")
    if count > LABELS[-1]:
        raise RequestError(f"at most {LABELS[-1]} labels of entities, got {count}", "labels")
    room = _room(count)
    first, *others = task.steps
    return replace(task, steps=(replace(first, labels=room), *others))


def _request(model, task, params, text: str, labels: Sequence[str]) -> tuple[Prepared, np.ndarray]:
    """The request of a text, and the characters `[words, 2]` of those of its words that count."""
    rule, found = task.rows, list(WORD.finditer(text))
    words = found[: rule.words]
    prompt = [*rule.prompt(labels), *(word.group() for word in words)]
    encoding = model.tokenizer.fast.encode(prompt, is_pretokenized=True)
    ids = np.array(encoding.ids, np.int32)
    check_tokens(model, ids, model.max_length, exact=True)
    if (read := int(np.sum(ids == rule.token))) != len(labels):
        raise RequestError(
            f"{len(labels)} labels were given and {read} read: one spells their marker"
        )
    owner = np.array([-1 if i is None else i for i in encoding.word_ids]) - len(prompt) + len(words)
    begins = (owner >= 0) & (owner != np.roll(owner, 1))
    tokens = Tokens(ids, np.zeros_like(ids), cut=len(found) > len(words))
    (made,) = requests(model, (task,), [tokens], [(params,)])
    made = replace(made, words=begins.astype(np.int32), cut=tokens.cut)
    spans = np.array([word.span() for word in words]).reshape(-1, 2)
    return made.keeping(np.flatnonzero(begins)), spans[owner[begins]]


Found = tuple[int, int, int, float]  # the first and last word of a span, its label, probability


def _entities(
    text: str,
    places: np.ndarray,
    logits: np.ndarray,
    labels: Sequence[str],
    threshold: float,
    nested: bool,
    marked: bool,
) -> list[Entity]:
    """The entities of a text, of the logits `[words, W C]` of spans or `[words, 3 C]` of marks."""
    odds = logits.reshape(len(places), -1, _room(len(labels)))[..., : len(labels)]
    # In float32, as the authors compute: spans that are sure keep their order among each other.
    probs = 1 / (1 + np.exp(-np.maximum(odds, -80)))
    found = (_marked if marked else _scored)(probs, threshold)
    kept: list[Found] = []
    for one in sorted(found, key=lambda each: -each[3]):
        if not any(_clash(*one[:2], *other[:2], nested) for other in kept):
            kept.append(one)
    made = []
    for start, end, number, score in sorted(kept):
        begin, stop = int(places[start, 0]), int(places[end, 1])
        made.append(Entity(labels[number], score, begin, stop, text[begin:stop]))
    return made


def _scored(probs: np.ndarray, threshold: float) -> list[Found]:
    """The spans above a threshold, of the probabilities `[words, W, C]` of each."""
    first, width, label = np.nonzero(probs > threshold)
    inside = first + width < len(probs)
    first, width, label = first[inside], width[inside], label[inside]
    likely = probs[first, width, label]
    found = zip(first, first + width, label, likely, strict=True)
    return [(int(a), int(b), int(c), float(p)) for a, b, c, p in found]


def _marked(probs: np.ndarray, threshold: float) -> list[Found]:
    """The spans of marked words, of the probabilities `[words, 3, C]` of first, last and any.

    The least of its marks is a span's probability.
    """
    start, end, inside = np.moveaxis(probs, 1, 0)
    found = []
    for first, label in zip(*np.nonzero(start > threshold), strict=True):
        least = np.minimum.accumulate(inside[first:, label])
        (lasts,) = np.nonzero((end[first:, label] > threshold) & (least >= threshold))
        for width in lasts:
            last = first + width
            likely = min(least[width], start[first, label], end[last, label])
            found.append((int(first), int(last), int(label), float(likely)))
    return found


def _room(count: int) -> int:
    return next(size for size in LABELS if size >= count)


def _clash(start: int, end: int, other: int, last: int, nested: bool) -> bool:
    """Whether two spans of words may not stand together."""
    if end < other or last < start:
        return False
    within = (start <= other and last <= end) or (other <= start and end <= last)
    return not (nested and within and (start, end) != (other, last))
