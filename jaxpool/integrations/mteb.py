"""Models for mteb (its version 2): `mteb.evaluate(MTEBEncoder("a/model"), tasks)`."""

from collections.abc import Iterable, Mapping
from functools import cached_property
from typing import Any

import numpy as np
from mteb.models import ModelMeta

from jaxpool.llm import LLM
from jaxpool.tasks.pooling_params import PoolingParams

CUT = {"truncate_prompt_tokens": -1}
SIDES = {"query": "query", "document": "document", "passage": "document"}


class _Model:
    """A loaded model and what mteb wants to know of it."""

    def __init__(self, model: str | LLM, revision: str | None = None, **options: Any):
        self.llm = model if isinstance(model, LLM) else LLM(model, revision=revision, **options)
        self.revision = revision

    @cached_property
    def mteb_model_meta(self) -> ModelMeta:
        """The name and revision that results are filed under."""
        name = self.llm.model.name.rstrip("/").split("/")[-2:]
        facts = {"name": "/".join(name), "revision": self.revision or "local"}
        return ModelMeta.create_empty(overwrites=facts)


class MTEBEncoder(_Model):
    """An embedding model; queries and documents get the prompts their checkpoint has for them."""

    def encode(self, inputs: Iterable[Mapping], *, prompt_type=None, **kwargs: Any) -> np.ndarray:
        """Vectors `[texts, F]` of mteb's batches; what is too long is cut."""
        side = SIDES.get(getattr(prompt_type, "value", prompt_type))
        return self.llm.model.encode(_texts(inputs), input_type=side)

    def similarity(self, embeddings1: np.ndarray, embeddings2: np.ndarray) -> np.ndarray:
        """Cosines of all pairs: `[N, M]`."""
        return _unit(embeddings1) @ _unit(embeddings2).T

    def similarity_pairwise(self, embeddings1: np.ndarray, embeddings2: np.ndarray) -> np.ndarray:
        """Cosines of the pairs: `[N]`."""
        return np.sum(_unit(embeddings1) * _unit(embeddings2), axis=-1)


class MTEBCrossEncoder(_Model):
    """A reranker: anything that `LLM.score` scores."""

    def predict(
        self, inputs1: Iterable[Mapping], inputs2: Iterable[Mapping], **kwargs: Any
    ) -> np.ndarray:
        """Raw scores `[N]` of the pairs of mteb's batches; what is too long is cut."""
        outputs = self.llm.score(
            _texts(inputs1),
            _texts(inputs2),
            pooling_params=PoolingParams(use_activation=False),
            tokenization_kwargs=CUT,
            use_tqdm=False,
        )
        return np.array([output.outputs.score for output in outputs], np.float32)


def _texts(batches: Iterable[Mapping]) -> list[str]:
    return [text for batch in batches for text in batch["text"]]


def _unit(vectors: Any) -> np.ndarray:
    vectors = np.atleast_2d(np.asarray(vectors, np.float32))
    return vectors / np.maximum(np.linalg.norm(vectors, axis=-1, keepdims=True), 1e-12)
