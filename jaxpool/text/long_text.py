"""Embeddings of texts beyond the model's length: chunks, and the mean of their vectors.

A text's vector is the mean of its chunks' vectors weighted by their tokens, in float32, normalized
again where activation is on. Chunks are runs of the finished ids, or (`chunk_special_tokens`) of
the text alone, with the tokenizer's special tokens put around each.
"""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from jaxpool.text.prepared import Prepared


def split(request: Prepared, size: int, affixes: tuple[list[int], list[int]]) -> list[Prepared]:
    """The pieces of at most `size` tokens that stand for a request; itself if it is short.

    affixes: special tokens to put before and after each piece, ([], []) to cut the ids as they are.
    """
    ids = request.ids
    if len(ids) <= size:
        return [request]
    before, after = (np.array(part, np.int32) for part in affixes)
    if not _wrapped(ids, before, after):
        before = after = ids[:0]  # ids the caller made without special tokens stay without
    text = ids[len(before) : len(ids) - len(after)]
    step = size - len(before) - len(after)
    pieces = [text[start : start + step] for start in range(0, len(text), step)]
    return [
        replace(
            request,
            ids=np.concatenate([before, piece, after]),
            types=None,
            skip=0 if number else request.skip,
        )
        for number, piece in enumerate(pieces)
    ]


def _wrapped(ids, before, after) -> bool:
    tail = ids[len(ids) - len(after) :]
    return np.array_equal(ids[: len(before)], before) and np.array_equal(tail, after)


def join(pieces: Sequence[Prepared], vectors: Sequence[np.ndarray]) -> np.ndarray:
    """The vector of a text from those of its pieces."""
    if len(pieces) == 1:
        return vectors[0]
    weights = np.array([len(piece.ids) for piece in pieces], np.float32)
    mean = np.average(np.stack(vectors), axis=0, weights=weights).astype(np.float32)
    return mean / max(float(np.linalg.norm(mean)), 1e-12) if pieces[0].activate else mean
