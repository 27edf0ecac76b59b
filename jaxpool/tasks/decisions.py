"""Typed questions about a state, and their answers from the probabilities of options.

"noul" is true or false, "choice" one of several options, "score" a level on a scale. The contract
is that of transformers' `DecisionPipeline` (System One).
"""

import string
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from jaxpool.errors import RequestError

KINDS = ("noul", "choice", "score")
EXAMPLES = {
    "noul": '{"type": "noul", "instructions": "Is it spam?", "criteria": {"true": "an ad"}}',
    "choice": '{"type": "choice", "criteria": {"calm": "a polite message", "angry": null}}',
    "score": '{"type": "score", "criteria": ["can wait", "this week", "today"]}',
}


@dataclass(frozen=True)
class DecisionSettings:
    """How a model was made to decide: `decision.json`, and `decision_template.jinja`.

    labels: of each kind, the single tokens whose logits are the options'; temperature: of each
    kind; chat_template: the prompt of `state` and `question` (or `questions`, all in one), None for
    the generic one in the tokenizer's chat template; noul_options: the order of true and false;
    sanitize: whether control tokens in a request are read as text; columns: of the labels that are
    single tokens, which of the model's outputs is theirs.
    """

    labels: Mapping[str, Sequence[str]] = field(default_factory=dict)
    temperature: Mapping[str, float] = field(default_factory=dict)
    chat_template: str | None = None
    noul_options: Sequence[str] = ("true", "false")
    sanitize: bool = True
    columns: Mapping[str, int] = field(default_factory=dict)

    def labels_of(self, kind: str) -> list[str]:
        """The labels of the options of a kind of question."""
        usual = ["Yes", "No"] if kind == "noul" else list(string.ascii_uppercase)
        return list(self.labels.get(kind) or usual)


@dataclass(frozen=True)
class Question:
    """One question, its options in the order of the prompt: their labels and what they mean."""

    name: str
    type: str
    instructions: Any
    options: list[str]
    labels: list[str]
    descriptions: list[Any]

    def variables(self) -> dict[str, Any]:
        """What templates see of it."""
        return asdict(self)

    def answer(self, probabilities: Iterable[float]) -> dict[str, Any]:
        """The answer, from the probability of each option."""
        by_option = dict(zip(self.options, map(float, probabilities), strict=True))
        if self.type == "noul":
            return {"type": "noul", "noul": by_option["true"]}
        count, best = len(by_option), max(by_option, key=by_option.__getitem__)
        if self.type == "choice":
            even = 1 / count
            sure = 1.0 if count == 1 else max(0.0, (by_option[best] - even) / (1 - even))
            found = {"type": "choice", "choice": best, "confidence": sure}
            return found | {"probabilities": by_option}
        levels = list(enumerate(by_option.values()))
        distance = sum(p * abs(level - int(best)) for level, p in levels)
        even = sum(abs(level - (count - 1) / 2) for level, _ in levels) / count
        return {
            "type": "score",
            "score": sum(level * p for level, p in levels),
            "legend": dict(zip(self.options, self.descriptions, strict=True)),
            "confidence": 1.0 if count == 1 else max(0.0, 1 - distance / even),
            "probabilities": by_option,
        }


def questions(given: Any, settings: DecisionSettings) -> list[Question]:
    """The checked questions of a request; one error tells of all that are wrong."""
    if not isinstance(given, Mapping) or not given:
        raise RequestError("questions must map names to questions, at least one", "questions")
    made, wrong = [], []
    for name, spec in given.items():
        try:
            made.append(_question(str(name), spec, settings))
        except ValueError as error:
            wrong.append(f"question {name!r}: {error}")
    if wrong:
        raise RequestError("; ".join(wrong), "questions")
    return made


def _question(name: str, spec: Any, settings: DecisionSettings) -> Question:
    kind = spec.get("type") if isinstance(spec, Mapping) else None
    if kind not in KINDS:
        raise ValueError(f"type must be one of {', '.join(KINDS)}, got {kind!r}")
    if unknown := sorted(set(spec) - {"type", "instructions", "criteria"}):
        raise ValueError(f"unknown fields {unknown}; such as {EXAMPLES[kind]}")
    criteria = _criteria(kind, spec.get("criteria"), settings)
    labels = settings.labels_of(kind)
    if len(labels) < len(criteria):
        raise ValueError(f"this model reads at most {len(labels)} options, got {len(criteria)}")
    labels = labels[: len(criteria)]
    if unread := [label for label in labels if label not in settings.columns]:
        raise ValueError(f"the labels {unread} are not distinct single tokens of this model")
    instructions = spec.get("instructions")
    return Question(name, kind, instructions, list(criteria), labels, list(criteria.values()))


def _criteria(kind: str, given: Any, settings: DecisionSettings) -> dict[str, Any]:
    """What each option means, by its name."""
    if kind == "noul":
        if given is not None and not (isinstance(given, Mapping) and {*given} <= {"true", "false"}):
            raise ValueError(f"criteria may describe true and false, such as {EXAMPLES[kind]}")
        return {option: (given or {}).get(option) for option in settings.noul_options}
    wanted = Mapping if kind == "choice" else list
    if not isinstance(given, wanted) or not given:
        raise ValueError(f"criteria must have its options, such as {EXAMPLES[kind]}")
    return dict(given) if kind == "choice" else {str(i): level for i, level in enumerate(given)}
