"""Request outputs, named and printed as vLLM's."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np


class Listed:
    """A field: a list of numbers, made of the array that was given when it is first read.

    Python's own numbers take ten times as much memory, and most of the time that an output takes.
    """

    def __set_name__(self, owner, name: str):
        self.name = f"_{name}"

    def __get__(self, one, owner=None) -> Any:
        if one is None:
            return ()  # the default of the field
        value = getattr(one, self.name)
        if not isinstance(value, list):
            value = np.asarray(value).tolist()
            setattr(one, self.name, value)
        return value

    def __set__(self, one, value: np.ndarray | Sequence):
        setattr(one, self.name, value)


@dataclass(repr=False)
class PoolingOutput:
    """The raw output of a task: a vector, or one a token; for several tasks a dict by name."""

    data: np.ndarray | dict[str, np.ndarray]

    def __repr__(self):
        return f"PoolingOutput(data={self.data})"


@dataclass(repr=False)
class EmbeddingOutput:
    """An embedding."""

    embedding: Listed = Listed()

    @property
    def hidden_size(self) -> int:
        """The length of the embedding."""
        return len(self.embedding)

    def __repr__(self):
        return f"EmbeddingOutput(hidden_size={self.hidden_size})"


@dataclass(repr=False)
class ClassificationOutput:
    """Class probabilities (or logits, where activation was off)."""

    probs: Listed = Listed()

    @property
    def num_classes(self) -> int:
        """The number of classes."""
        return len(self.probs)

    def __repr__(self):
        return f"ClassificationOutput(num_classes={self.num_classes})"


@dataclass(repr=False)
class ScoringOutput:
    """A similarity or relevance score."""

    score: float

    def __repr__(self):
        return f"ScoringOutput(score={self.score})"


@dataclass(frozen=True)
class Chunk:
    """Where a late chunk lies: (start, end) tokens and characters (None without text)."""

    token_range: tuple[int, int]
    char_range: tuple[int, int] | None = None


@dataclass(frozen=True)
class LateChunking:
    """How a text was cut into the chunks whose vectors a request returns."""

    input_tokens: int
    chunks: tuple[Chunk, ...]
    chunk_size: int | None = None
    strategy: str = "fixed_tokens"


@dataclass(repr=False)
class PoolingRequestOutput:
    """The result of one request: its outputs and the token ids they were computed from."""

    request_id: str
    outputs: Any
    prompt_token_ids: Listed = Listed()
    num_cached_tokens: int = 0
    finished: bool = True
    error: Any = None
    late_chunking: LateChunking | None = None

    def __repr__(self):
        error = f", error={self.error!r}" if self.error is not None else ""
        return (
            f"{type(self).__name__}(request_id={self.request_id!r}, outputs={self.outputs!r}, "
            f"prompt_token_ids={self.prompt_token_ids}, "
            f"num_cached_tokens={self.num_cached_tokens}, finished={self.finished}{error})"
        )


class EmbeddingRequestOutput(PoolingRequestOutput):
    """`outputs` is an `EmbeddingOutput`."""


class ClassificationRequestOutput(PoolingRequestOutput):
    """`outputs` is a `ClassificationOutput`."""


class ScoringRequestOutput(PoolingRequestOutput):
    """`outputs` is a `ScoringOutput`."""


class Kind(NamedTuple):
    """What a call answers with: the class of a request's output, and that of its result."""

    request: type[PoolingRequestOutput]
    output: Callable[[np.ndarray], Any]


POOLING = Kind(PoolingRequestOutput, PoolingOutput)
EMBEDDING = Kind(EmbeddingRequestOutput, EmbeddingOutput)
CLASSIFICATION = Kind(ClassificationRequestOutput, ClassificationOutput)
