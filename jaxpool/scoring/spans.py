"""Entities of labels that a call names: spans of words, for models that score these (GLiNER)."""

import re
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np

from jaxpool.errors import RequestError
from jaxpool.heads.spans import LABELS
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
    find = partial(_entities, labels=names, threshold=threshold, nested=nested)

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


def _entities(
    text: str,
    places: np.ndarray,
    logits: np.ndarray,
    labels: Sequence[str],
    threshold: float,
    nested: bool,
) -> list[Entity]:
    """The entities of a text, of the logits `[words, W C]` of spans."""
    count = len(places)
    odds = logits.reshape(count, -1, _room(len(labels)))[..., : len(labels)]
    # In float32, as the authors compute: spans that are sure keep their order among each other.
    probs = 1 / (1 + np.exp(-np.maximum(odds, -80)))
    first, width, label = np.nonzero(probs > threshold)
    inside = first + width < count
    first, width, label = first[inside], width[inside], label[inside]
    order = np.argsort(-probs[first, width, label], kind="stable")
    kept: list[tuple[int, int, int, float]] = []
    for i in order:
        start, end = int(first[i]), int(first[i] + width[i])
        if not any(_clash(start, end, *one[:2], nested) for one in kept):
            kept.append((start, end, int(label[i]), float(probs[first[i], width[i], label[i]])))
    made = []
    for start, end, number, score in sorted(kept):
        begin, stop = int(places[start, 0]), int(places[end, 1])
        made.append(Entity(labels[number], score, begin, stop, text[begin:stop]))
    return made


def _room(count: int) -> int:
    return next(size for size in LABELS if size >= count)


def _clash(start: int, end: int, other: int, last: int, nested: bool) -> bool:
    """Whether two spans of words may not stand together."""
    if end < other or last < start:
        return False
    within = (start <= other and last <= end) or (other <= start and end <= last)
    return not (nested and within and (start, end) != (other, last))
