"""What a task does with rows: each is prepared, computed, and becomes columns of results."""

from collections.abc import Sequence
from functools import cached_property
from typing import Any

import numpy as np

from jaxpool.jobs.fields import NUMBER, NUMBERS, SPANS, TEXT, VECTOR, VECTORS, WEIGHTS, Field
from jaxpool.offline import collect, prepare
from jaxpool.scoring.pairs import prepare_scores
from jaxpool.tasks.entities import STRATEGIES, entities
from jaxpool.tasks.pooling_params import PoolingParams
from jaxpool.tasks.task import several

NAMES = {
    "embed": "embedding",
    "token_embed": "token_embeddings",
    "classify": "probabilities",
    "token_classify": "token_probabilities",
}
HALF = "float16"  # the one precision that vectors are given on the host
STORED = {"int8": "int8", "uint8": "uint8", "binary": "int8", "ubinary": "uint8", HALF: HALF}


class Prompts:
    """A task, or several of one forward, on a text a row."""

    columns = 1

    def __init__(self, model, task, output: str | None, precision: str, params, options: dict):
        self.model, self.precision, self.options = model, precision, options
        on_device = "float32" if precision == HALF else precision
        self.task = model.select(task, options.get("input_type"), on_device)
        self.names = several(task) or [task]
        own = {"task": adapter} if (adapter := options.pop("task", None)) else {}
        self.params = PoolingParams(**params | own)
        self.together = isinstance(self.task, tuple)
        if output and self.together:
            raise ValueError(f"output names one column, and the tasks are {self.names}")
        self.output = output

    @cached_property
    def fields(self) -> list[Field]:
        """The columns of results."""
        tasks = self.task if self.together else (self.task,)
        return [
            f for name, task in zip(self.names, tasks, strict=True) for f in self._of(name, task)
        ]

    def _of(self, name: str, task) -> list[Field]:
        name = name.partition(":")[0]
        width, dtype = task.width(self.model.arch.dim), "float32"
        if task.name in ("embed", "token_embed"):
            dimensions = self.params.dimensions or self.model.pooler_config.dimensions
            width = min(width, dimensions or width)
            width = -(-width // 8) if self.precision.endswith("binary") else width
            dtype = STORED.get(self.precision, dtype)
        column = self.output or NAMES.get(name, name)
        if task.name == "sparse":
            return [Field(column, WEIGHTS)]
        if not task.pooled:
            numbers = width == 1 and task.name == "token_classify"
            columns = self.params.returned_token_ids or self.model.pooler_config.returned_token_ids
            width = len(columns) if columns and task.name == "token_classify" else width
            return [Field(column, NUMBERS) if numbers else Field(column, VECTORS, width, dtype)]
        if name == "reward" and width == 1:
            return [Field(column, NUMBER)]
        label = [Field("label", TEXT)] if name == "classify" else []
        return [*label, Field(column, VECTOR, width, dtype)]

    def prepare(self, texts: Sequence[str]) -> list:
        """The requests of some texts; raises where one cannot be served."""
        return prepare(self.model, self.task, list(texts), self.params, **self.options)

    def tokens(self, prepared: list) -> int:
        """How many tokens some requests have."""
        return sum(len(request.ids) for request in prepared)

    def compute(self, prepared: list) -> list[list]:
        """The values of each field, a list a field."""
        results = collect(self.model, self.task, prepared)
        parts = list(zip(*results, strict=True)) if self.together else [results]
        values, fields = [], iter(self.fields)
        for part in parts:
            field = next(fields)
            if field.kind == TEXT:
                values.append([self._label(probabilities) for probabilities in part])
                field = next(fields)
            values.append([_value(field, result) for result in part])
        return values

    def _label(self, probabilities: np.ndarray) -> str:
        best = int(np.argmax(probabilities))
        return (getattr(self.model.checkpoint.config, "id2label", None) or {}).get(best, str(best))


def _value(field: Field, result: np.ndarray) -> Any:
    if field.kind == NUMBER:
        return float(result[0])
    return np.ravel(result) if field.kind == NUMBERS else result


class Pairs:
    """Scores of two texts a row."""

    columns = 2

    def __init__(self, model, output: str | None, params, options: dict):
        self.model = model
        self.fields = [Field(output or "score", NUMBER)]
        template = options.pop("chat_template", None)
        self.arguments = (PoolingParams(**params), options.pop("tokenization_kwargs"), template)
        _nothing_left(options)

    def prepare(self, pairs: Sequence[tuple[str, str]]) -> Any:
        """What is to be computed for some pairs; raises where one cannot be scored."""
        queries, documents = (list(side) for side in zip(*pairs, strict=True))
        return prepare_scores(self.model, queries, documents, *self.arguments)

    def tokens(self, prepared: Any) -> int:
        """How many tokens are to be computed."""
        return prepared.tokens

    def compute(self, prepared: Any) -> list[list]:
        """The scores, as the values of the one field."""
        results: list = []
        for part in prepared.parts:
            results += collect(self.model, part.task, part.after(results))
        return [[float(score) for score in prepared.combine(results)]]


class Entities:
    """The labelled spans of a text a row."""

    columns = 1

    def __init__(self, model, output: str | None, aggregation: str, options: dict):
        if aggregation not in STRATEGIES:
            raise ValueError(f"unknown aggregation {aggregation!r}; known: {', '.join(STRATEGIES)}")
        self.model, self.aggregation = model, aggregation
        self.fields = [Field(output or "entities", SPANS)]
        self.task, self.tokenization = (
            model.task("token_classify"),
            options.pop("tokenization_kwargs"),
        )
        _nothing_left(options)

    def prepare(self, texts: Sequence[str]) -> list:
        """The texts and their requests; raises where one cannot be served."""
        kwargs = {"tokenization_kwargs": self.tokenization, "offsets": True}
        made = prepare(self.model, self.task, list(texts), **kwargs)
        return list(zip(texts, made, strict=True))

    def tokens(self, prepared: list) -> int:
        """How many tokens some requests have."""
        return sum(len(request.ids) for _, request in prepared)

    def compute(self, prepared: list) -> list[list]:
        """The spans of each text, as the values of the one field."""
        model = self.model
        labels = model.model_config.id2label
        results = collect(model, self.task, [request for _, request in prepared])
        return [
            [
                entities(text, r.ids, r.offsets, probs, model.tokenizer, labels, self.aggregation)
                for (text, r), probs in zip(prepared, results, strict=True)
            ]
        ]


def _nothing_left(options: dict) -> None:
    if options:
        raise TypeError(f"this task takes no {', '.join(options)}")


Call = Prompts | Pairs | Entities


def call(model, task, output, precision, aggregation: str, params: dict, options: dict) -> Call:
    """The call of a task by its name."""
    options = dict(options)
    if task == "score":
        return Pairs(model, output, params, options)
    if task == "entities":
        return Entities(model, output, aggregation, options)
    return Prompts(model, task, output, precision, params, options)
