"""Documents read by themselves, and prompts whose tokens attend to their vectors.

An encoder reads each document once, and means of neighbouring vectors stand for it; a decoder reads
the query's prompt beside them and says whether it fits. Source: the model card of
KaLM-Reranker-V1 and its kalm_reranker.py (arXiv 2606.22807).
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np


@dataclass(frozen=True)
class Apart:
    """How documents are read.

    document: the text of one; chunk: tokens of it that become one vector; query_length,
    document_length: tokens that each is cut to.
    """

    document: str
    chunk: int = 1
    query_length: int = 512
    document_length: int = 1024

    def read(self, documents: Sequence[str]) -> tuple[list[str], list[int]]:
        """The distinct texts of some documents, and the place of each among these."""
        texts = [self.document.format(document) for document in documents]
        places = {text: place for place, text in enumerate(dict.fromkeys(texts))}
        return list(places), [places[text] for text in texts]

    def pooled(self, vectors: np.ndarray) -> np.ndarray:
        """The means of each `chunk` neighbours of `[T, D]`, the last of what is left."""
        starts = np.arange(0, len(vectors), self.chunk)
        counts = np.minimum(self.chunk, len(vectors) - starts)
        return np.add.reduceat(vectors, starts, dtype=np.float32) / counts[:, None]

    def complete(self, places: Sequence[int]) -> Callable[[list, Sequence], list]:
        """The prompts with the vectors of their documents, each by its place among these."""

        def complete(requests: list, results: Sequence[np.ndarray]) -> list:
            memories = [self.pooled(vectors) for vectors in results]
            pairs = zip(requests, places, strict=True)
            return [replace(request, memory=memories[place]) for request, place in pairs]

        return complete
