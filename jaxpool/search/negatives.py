"""Hard negatives for training: what lies near a query and is not its answer.

The rules and their order are those of sentence-transformers' `mine_hard_negatives`.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from jaxpool.search.exact import Hits, top_k
from jaxpool.search.sources import vectors

Rerank = Callable[[int, np.ndarray], np.ndarray]


@dataclass(frozen=True)
class Rules:
    """Which candidates are negatives.

    Candidates are the nearest range_max ones (by default enough for num_negatives, ten times as
    many where rules leave some out), of which the first range_min are passed over. They score
    within [min_score, max_score], and below the query's worst positive by absolute_margin, and by
    relative_margin of its magnitude. sampling_strategy: the nearest ("top") or any ("random").
    include_positives: answers stay among the candidates, to rank them all.
    """

    range_min: int = 0
    range_max: int | None = None
    max_score: float | None = None
    min_score: float | None = None
    absolute_margin: float | None = None
    relative_margin: float | None = None
    num_negatives: int = 3
    sampling_strategy: str = "top"
    include_positives: bool = False

    @property
    def judges(self) -> bool:
        """Whether scores decide anything but the order."""
        rules = (self.absolute_margin, self.relative_margin, self.max_score, self.min_score)
        return any(rule is not None for rule in rules)

    def last(self, most: int, reranked: bool) -> int:
        """How many candidates there are, for queries of up to `most` positives."""
        upper = (self.absolute_margin, self.relative_margin, self.max_score)
        more = any(rule is not None for rule in upper) or (reranked and self.min_score is not None)
        enough = self.range_min + self.num_negatives * (10 if more else 1) + most
        last = enough if self.range_max is None else self.range_max
        if self.sampling_strategy not in ("top", "random"):
            raise ValueError(
                f"sampling_strategy must be 'top' or 'random', got {self.sampling_strategy!r}"
            )
        if self.range_min < 0 or not 1 <= self.num_negatives <= last - self.range_min:
            raise ValueError(
                f"{self.num_negatives} negatives of the candidates {self.range_min} to {last}: "
                "num_negatives must be at least 1, and no more than there are candidates"
            )
        return last

    def strike(self, scores: np.ndarray, worst: np.ndarray) -> None:
        """Set the scores of what is no negative to -inf; worst `[Q, 1]`: of the positives."""
        if self.absolute_margin is not None:
            scores[scores + self.absolute_margin > worst] = -np.inf
        if self.relative_margin is not None:
            scores[scores > worst - np.abs(worst) * self.relative_margin] = -np.inf
        if self.max_score is not None:
            scores[scores > self.max_score] = -np.inf
        if self.min_score is not None:
            scores[scores < self.min_score] = -np.inf


def hard_negatives(
    queries: Any,
    corpus: Any,
    positives: Sequence[Sequence[int]],
    *,
    rerank: Rerank | None = None,
    seed: int = 0,
    **rules: Any,
) -> Hits:
    """The negatives of each query: rows of the corpus `[Q, num_negatives]`, -1 where there is none.

    queries, corpus: vectors, as in `top_k`; positives: the rows of each query's answers; rerank:
    `(query's number, rows) -> scores`, by which the rules then judge (a cross-encoder's veto);
    rules: the fields of `Rules`.
    """
    return judged(queries, corpus, positives, rerank=rerank, seed=seed, **rules)[0]


def judged(
    queries: Any,
    corpus: Any,
    positives: Sequence[Sequence[int]],
    *,
    rerank: Rerank | None = None,
    seed: int = 0,
    **rules: Any,
) -> tuple[Hits, list[np.ndarray]]:
    """`hard_negatives`, and the scores of each query's positives."""
    rule = Rules(**rules)
    most = max(map(len, positives), default=0)
    last = rule.last(most, rerank is not None)
    asked, rows = vectors(queries), vectors(corpus)
    scores, indices = top_k(asked, rows, last + most)
    right = [_cosines(asked[i], rows[list(of)]) for i, of in enumerate(positives)]
    if rerank and rule.judges:
        scores = np.stack([rerank(i, row) for i, row in enumerate(indices)]).astype(np.float32)
        right = [rerank(i, np.array(of)) for i, of in enumerate(positives)]
    if not rule.include_positives:
        for i, of in enumerate(positives):
            scores[i, np.isin(indices[i], list(of))] = -np.inf
    rule.strike(scores, np.array([np.min(of) for of in right], np.float32)[:, None])
    short = ((0, 0), (0, last + most - scores.shape[1]))  # of a corpus with fewer rows
    scores = np.pad(scores, short, constant_values=-np.inf)
    indices = np.pad(indices, short, constant_values=-1)
    order = np.argsort(-scores, axis=1, kind="stable")[:, rule.range_min : last]
    left = np.take_along_axis(scores, order, axis=1)
    chosen = _chosen(left, rule.num_negatives, rule.sampling_strategy, seed)
    order = np.take_along_axis(order, chosen, axis=1)
    scores, indices = (np.take_along_axis(array, order, axis=1) for array in (scores, indices))
    return Hits(scores, np.where(np.isfinite(scores), indices, -1)), right


def _cosines(query: np.ndarray, rows: np.ndarray) -> np.ndarray:
    query, rows = query.astype(np.float32), rows.astype(np.float32)
    return rows @ query / (np.linalg.norm(rows, axis=-1) * np.linalg.norm(query))


def _chosen(scores: np.ndarray, count: int, strategy: str, seed: int) -> np.ndarray:
    """The columns to take of candidates `[Q, C]` in the order of their scores."""
    if strategy == "top":
        return np.tile(np.arange(count), (len(scores), 1))
    random = np.random.default_rng(seed)
    options = np.maximum(np.isfinite(scores).sum(axis=1), count)
    picks = [random.choice(n, count, replace=False) for n in options]
    return np.sort(np.stack(picks), axis=1)
