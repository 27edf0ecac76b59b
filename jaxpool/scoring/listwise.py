"""Listwise reranking: one prompt holds a query and many documents, and each sees those before it.

Every text ends in a marker token whose vector stands for it; a score is the cosine of a document's
vector and the query's. Source: the modeling file of jina-reranker-v3 (arXiv 2509.25085).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import NamedTuple

import numpy as np


class Prompt(NamedTuple):
    """Which texts one prompt holds."""

    query: int
    documents: list[int]


@dataclass(frozen=True)
class Listwise:
    """The prompt of a listwise reranker.

    query_marker, document_marker: vocabulary entries that end the texts in the prompt; documents:
    the most in a prompt; query_length, document_length: tokens each text is cut to.
    """

    query_marker: str
    document_marker: str
    documents: int = 125
    query_length: int = 512
    document_length: int = 2048

    def clean(self, text: str) -> str:
        """A text without markers, each of which would count as the end of a text."""
        return text.replace(self.document_marker, "").replace(self.query_marker, "")

    def prompts(self, queries: Sequence[int], documents: Sequence[int], limit: int) -> list[Prompt]:
        """The prompts of one query with all documents, or of N with N, from the texts' tokens.

        In order, until one is full: it names the query twice, and keeps room for one more document
        of the longest kind.
        """
        if len(queries) > 1:
            return [Prompt(i, [i]) for i in range(len(queries))]
        prompts: list[Prompt] = []
        room = 0
        for index, length in enumerate(documents):
            if room <= self.document_length or len(prompts[-1].documents) == self.documents:
                prompts.append(Prompt(0, []))
                room = max(limit - 2 * queries[0], self.document_length + 1)
            prompts[-1].documents.append(index)
            room -= length
        return prompts

    def places(self, tokenizer, ids: np.ndarray) -> np.ndarray:
        """The positions of the markers in a prompt: those of documents, the query's at the end."""
        marks = [tokenizer.id(marker) for marker in (self.document_marker, self.query_marker)]
        if None in marks:
            wanted = f"{self.document_marker} and {self.query_marker}"
            raise ValueError(f"the vocabulary has no {wanted}, which listwise prompts need")
        return np.concatenate([np.flatnonzero(ids == mark) for mark in marks])


def scores(prompts: Sequence[Prompt], results: Sequence[np.ndarray]) -> np.ndarray:
    """A score a document, from the marker vectors `[documents + 1, F]` of the prompts."""
    pairs = zip(prompts, results, strict=True)
    groups = [
        [vectors for _, vectors in group] for _, group in groupby(pairs, lambda p: p[0].query)
    ]
    return np.concatenate([_scores(blocks) for blocks in groups])


def _scores(blocks: Sequence[np.ndarray]) -> np.ndarray:
    """Of one query, which has a vector in each prompt: their mean, weighted by its best score."""
    documents = np.concatenate([block[:-1] for block in blocks])
    queries = np.stack([block[-1] for block in blocks])
    weights = [(1 + _cosines(block[:-1], block[-1]).max()) / 2 for block in blocks]
    return _cosines(documents, np.average(queries, axis=0, weights=weights))


def _cosines(documents: np.ndarray, query: np.ndarray) -> np.ndarray:
    norms = np.linalg.norm(documents, axis=1) * np.linalg.norm(query)
    return documents @ query / np.maximum(norms, 1e-8)
