"""Sparse vectors over the vocabulary, as the words they weigh."""

from typing import NamedTuple

import numpy as np


class Weight(NamedTuple):
    """One word of a sparse vector."""

    token: str
    id: int
    weight: float


def sparse_weights(vector: np.ndarray, tokenizer, top: int | None = None) -> list[Weight]:
    """The entries of a vector `[V]` that are not zero, greatest first, at most `top` of them."""
    ids = np.flatnonzero(vector)
    ids = ids[np.argsort(-vector[ids], kind="stable")][:top].tolist()
    tokens = tokenizer.convert_ids_to_tokens(ids)
    return [Weight(token, i, float(vector[i])) for token, i in zip(tokens, ids, strict=True)]
