"""`Prepared`: a request as the engine computes it, with what the host does to its results."""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from jaxpool.engine.batch import Request
from jaxpool.heads.precision import finite, unpack
from jaxpool.tasks.outputs import LateChunking
from jaxpool.tasks.token_pooling import TokenPooling
from jaxpool.tasks.token_rows import Inner, Labelled, Spanned, Words
from jaxpool.text.tokenizer import Tokens


@dataclass(frozen=True)
class Epilogue:
    """What the host does to the result of one task.

    keep: the token rows that are returned; rows: how they are gathered, if the task says so;
    columns: the classes that are returned (None: all); shares: the columns are probabilities, which
    are renormalized;
    precision: what the vectors were quantized to.
    """

    keep: np.ndarray | None = None
    rows: Inner | Words | Labelled | Spanned | TokenPooling | None = None
    columns: tuple[int, ...] | None = None
    shares: bool = False
    precision: str = "float32"

    def __call__(self, request: Request, result: np.ndarray) -> np.ndarray:
        """What the caller gets of a request's result."""
        result = unpack(result, self.precision, request.dimensions)
        if self.keep is not None:
            result = result[self.keep]
        if self.rows is not None:
            return self.rows.gather(request.ids[self.keep], result)
        if self.columns is not None:
            result = result[..., list(self.columns)]
            if self.shares:
                # a softmax over some of the logits is the softmax over all, rescaled
                result = finite(result / result.sum(axis=-1, keepdims=True))
        return result


@dataclass(frozen=True)
class Prepared(Request):
    """A request, with what the host needs to finish its result.

    epilogues: one a task of the call; offsets: characters of each token; chunks: where the late
    chunks lie, whose vectors are then the result; cut: whether truncation took some of the text.
    """

    epilogues: tuple[Epilogue, ...] = (Epilogue(),)
    offsets: np.ndarray | None = None
    chunks: LateChunking | None = None
    cut: bool = False

    def of(self, tokens: Tokens, skip: int = 0) -> "Prepared":
        """The same request of other tokens; `dataclasses.replace` takes ten times as long."""
        made = object.__new__(type(self))
        own = made.__dict__
        own.update(self.__dict__)
        own["ids"], own["types"], own["offsets"], own["cut"] = tokens
        own["skip"] = skip
        return made

    def finish(self, result: Any) -> Any:
        """The result for the caller, from that of the device; for several tasks a tuple."""
        if not isinstance(result, tuple):
            return self.epilogues[0](self, result)
        parts = zip(self.epilogues, result, strict=True)
        return tuple(epilogue(self, part) for epilogue, part in parts)

    def keeping(self, keep: np.ndarray, rows: TokenPooling | None = None) -> "Prepared":
        """The same request of one task, of whose token rows these count, and become `rows`."""
        return replace(self, epilogues=(replace(self.epilogues[0], keep=keep, rows=rows),))

    def against(self, query: np.ndarray) -> "Prepared":
        """The same text to be compared with token vectors `[T, F]`, by the last of its tasks."""
        *others, last = self.epilogues
        compared = replace(last, keep=None, rows=None)
        return replace(self, query=query, counted=last.keep, epilogues=(*others, compared))
