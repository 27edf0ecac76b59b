"""Classes that a call names, for classifiers of natural language inference and of labels.

To the first, a text is the premise, a sentence about each label a hypothesis; what tells is how
likely the one entails the other (Yin et al., arXiv 1909.00161, as transformers'
zero-shot-classification pipeline computes it). The others read the labels before the text.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, NamedTuple

import numpy as np

from jaxpool.errors import RequestError
from jaxpool.scoring.parts import Pair, Part, Scoring
from jaxpool.tasks.token_rows import Labelled
from jaxpool.tasks.validate import resolve_params
from jaxpool.text.options import Tokenization
from jaxpool.text.prepare import encode
from jaxpool.text.prepared import Prepared
from jaxpool.text.request import requests

TEMPLATE = "This example is {}."


@dataclass(frozen=True)
class Labels:
    """The classes of a call.

    names: at least one; template: the hypothesis about a label, which stands where `{}` is;
    multi_label: each label is true or not by itself, where otherwise one of them is.
    """

    names: Sequence[str]
    template: str = TEMPLATE
    multi_label: bool = False

    def __post_init__(self):
        if isinstance(self.names, str) or not all(isinstance(name, str) for name in self.names):
            raise RequestError(f"labels must be a list of texts, got {self.names!r}", "labels")
        if not self.names:
            raise RequestError("labels must name at least one class", "labels")
        if self.template.count("{}") != 1:
            raise RequestError(
                f"hypothesis_template must have one {{}} for the label, got {self.template!r}",
                "hypothesis_template",
            )

    @property
    def hypotheses(self) -> list[str]:
        """The hypothesis about each label."""
        return [self.template.replace("{}", name) for name in self.names]


class Inference(NamedTuple):
    """Which classes of a model say that a premise entails a hypothesis, and that it contradicts."""

    entailment: int
    contradiction: int


def inference(id2label: Mapping[int, str]) -> Inference:
    """The classes by their names in config.json; ValueError where none is an entailment.

    A contradiction that no name tells ("contradiction", "not_entailment") is the first class, or
    the last where entailment is the first, as transformers takes it.
    """
    names = {index: name.lower() for index, name in id2label.items()}
    entails = next((i for i, name in names.items() if name.startswith("entail")), None)
    if entails is None or len(names) < 2:
        raise RequestError(
            "labels are for models of natural language inference: wanted a class 'entailment' and "
            f"another in config.json's id2label, found {list(id2label.values())}",
            "labels",
        )
    usual = max(names) if entails == 0 else 0
    named = (i for i, name in names.items() if name.startswith(("contradict", "not")))
    return Inference(entails, next(named, usual))


def reads_labels(model) -> bool:
    """Whether a model has no classes but those that a call names."""
    return "classify" in model.tasks and isinstance(model.task("classify").rows, Labelled)


def takes_labels(model) -> bool:
    """Whether a model judges texts by labels that a call names."""
    if reads_labels(model):
        return True
    try:
        return "classify" in model.tasks and bool(inference(model.model_config.id2label or {}))
    except RequestError:
        return False


def prepare_labels(
    model,
    texts: str | Sequence[str],
    labels: Labels,
    params: Any = None,
    tokenization_kwargs: Mapping[str, Any] | None = None,
) -> Scoring:
    """The probabilities of labels, `[texts, labels]`.

    One pair of a text and a hypothesis each, or one prompt of a text and its labels. Raises before
    anything is computed. Where the parameters turn the activation off, they are the logits of
    labels: of entailment, less those of contradiction where labels are true by themselves.
    """
    texts = [texts] if isinstance(texts, str) else list(texts)
    if not all(isinstance(text, str) for text in texts):
        raise RequestError("labels are for texts, not for token ids or pictures", "labels")
    task = model.task("classify")
    settings, count = resolve_params(model, task, params, len(texts)), len(labels.names)
    raw = [(replace(one, use_activation=False),) for one in settings]
    options = Tokenization.of(tokenization_kwargs, model.max_length)
    if isinstance(task.rows, Labelled):
        prompts: list = [task.rows.prompt(text, labels.names) for text in texts]
        evidence: Callable = np.stack  # a result has all labels of its text
    else:
        classes = inference(model.model_config.id2label)
        prompts = [(text, sentence) for text in texts for sentence in labels.hypotheses]
        raw = [one for one in raw for _ in labels.names]
        evidence = partial(_of_pairs, classes, labels)
    made = requests(model, (task,), encode(model, prompts, options), raw)
    if isinstance(task.rows, Labelled):
        _check_read(made, count)
    names = [Pair(str(i), ids.tolist()) for i, ids in enumerate(_of_texts(made, len(texts)))]
    active = np.array([bool(one.use_activation) for one in settings])[:, None]

    def combine(results: Sequence[np.ndarray]) -> np.ndarray:
        logits = evidence(results) if len(results) else np.zeros((0, count), np.float32)
        return np.where(active, _probabilities(logits, labels), logits)

    return Scoring((Part(task, made),), names, combine)


def _of_texts(made: list[Prepared], count: int) -> list[np.ndarray]:
    """The tokens that each text's labels are judged by."""
    each = len(made) // max(count, 1)
    own = [made[i * each : (i + 1) * each] for i in range(count)]
    return [np.concatenate([request.ids for request in part]) for part in own]


def _check_read(made: list[Prepared], count: int) -> None:
    """Refuse texts in which other labels are read than were given."""
    for request in made:
        keep = request.epilogues[0].keep
        if keep is not None and len(keep) != count:
            raise RequestError(
                f"{count} labels were given and {len(keep)} read: a text spells their marker, or "
                "they were cut with a text that is too long",
                "labels",
            )


def _of_pairs(classes: Inference, labels: Labels, results: Sequence[np.ndarray]) -> np.ndarray:
    """What speaks for each label, `[texts, labels]`, of the classes of all pairs."""
    logits = np.stack(results).reshape(-1, len(labels.names), results[0].shape[-1])
    against = logits[..., classes.contradiction] if _alone(labels) else 0
    return logits[..., classes.entailment] - against


def _probabilities(logits: np.ndarray, labels: Labels) -> np.ndarray:
    if _alone(labels):
        return np.exp(-np.logaddexp(0, -logits))
    odds = np.exp(logits - logits.max(axis=1, keepdims=True))
    return odds / odds.sum(axis=1, keepdims=True)


def _alone(labels: Labels) -> bool:
    return labels.multi_label or len(labels.names) == 1
