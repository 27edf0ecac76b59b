"""The texts of a batch as requests of a model, made as serving makes them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from jaxpool.engine.batch import TEXT, Batch, Request
from jaxpool.heads.steps import Pool, PoolSlots, is_pooled, pools_slots
from jaxpool.model import Model
from jaxpool.scoring.call import checked
from jaxpool.scoring.pairs import templated
from jaxpool.tasks.pooling_params import PoolingParams
from jaxpool.tasks.task import Task
from jaxpool.text.prepare import prepare

CUT = {"truncate_prompt_tokens": -1}  # to the length of the model


@dataclass(frozen=True)
class Inputs:
    """Makes the requests of texts for a task of a model.

    prompts: what is put before the texts of a column, by its name; late interaction has markers of
    its own; adapted: whether the first adapter is used. ValueError for a model without the task.
    """

    model: Model
    name: str
    prompts: Mapping[str, str]
    adapted: bool = False

    @cached_property
    def task(self) -> Task:
        """The task that is trained."""
        task = self.model.task(self.name)
        if not task.steps or self.model.listwise:
            raise ValueError(
                f"{self.model.name}: wanted one chain for all texts, found routes or lists"
            )
        return task

    @property
    def steps(self) -> tuple:
        """The steps after the forward; vectors as wide as the vocabulary are those of slots."""
        steps = self.task.steps
        if self.name != "sparse":
            return steps
        return tuple(PoolSlots(step.kinds) if type(step) is Pool else step for step in steps)

    @property
    def results(self) -> str:
        """What a batch has vectors of, as `training_batch` names it."""
        if pools_slots((self.steps,)):
            return "slots"
        return "texts" if is_pooled(self.steps) else "tokens"

    @property
    def reads(self) -> Batch:
        """The arrays that the model's batches have."""
        types, context = self.model.arch.reads_types, self.model.context
        made = TEXT._replace(types=types or None, context=context or None)
        return made._replace(adapters=self.adapted or None)

    def columns(self, names: Sequence[str], rows: Sequence[Sequence[str]]) -> list[list[Request]]:
        """The requests of each column of texts; of pairs, those of the first with each other."""
        texts = list(zip(*rows, strict=True))
        if self.name == "classify":
            return self._pairs(names, texts)
        return [self._texts(i, name, texts[i]) for i, name in enumerate(names)]

    def _texts(self, number: int, name: str, texts: Sequence[str]) -> list[Request]:
        prompt: str | None = self.prompts.get(name, "")
        side = None
        if self.name == "token_embed" and self.model.late_interaction:
            side, prompt = "document" if number else "query", prompt or None
        made = prepare(
            self.model, self.task, list(texts), None, CUT, prompt=prompt, input_type=side
        )
        requests = [replace(one, counted=one.epilogues[0].keep) for one in made]
        return self._with_adapter(requests)

    def _pairs(self, names: Sequence[str], texts: list[tuple[str, ...]]) -> list[list[Request]]:
        prefixes = [self.prompts.get(name, "") for name in names]
        first, *others = [
            [prefix + text for text in column]
            for prefix, column in zip(prefixes, texts, strict=True)
        ]
        raw = PoolingParams(use_activation=False)
        if not others:
            made = prepare(self.model, self.task, first, raw, CUT)
            return [self._with_adapter(made)]
        return [self._with_adapter(self._scored(first, other, raw)) for other in others]

    def _scored(self, queries: list[str], documents: list[str], raw: PoolingParams):
        call = checked(self.model, queries, documents, raw, CUT, None)
        pairs = list(zip(call.queries, call.documents, strict=True))
        return templated(self.model, self.task, pairs, call, raw)

    def _with_adapter(self, requests: Sequence[Request]) -> list[Request]:
        return [replace(one, adapter=1) for one in requests] if self.adapted else list(requests)


def guide_vectors(guide: Model, rows: Sequence[Sequence[str]]) -> np.ndarray:
    """What a guide model makes of every text: float32 `[B, C, G]`."""
    vectors = guide.encode([text for row in rows for text in row])
    return np.asarray(vectors).reshape(len(rows), -1, vectors.shape[-1])
