"""Late chunking: a text is encoded whole, then each chunk's tokens are averaged and projected.

Source: Günther et al., arXiv 2409.04701.
"""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from jaxpool.engine.batch import TOKENS_PER_CHUNK
from jaxpool.errors import RequestError
from jaxpool.tasks.outputs import Chunk, LateChunking
from jaxpool.tasks.pooling_params import LateChunkingParams
from jaxpool.text.prepared import Prepared
from jaxpool.text.tokenizer import Tokens


def chunks(tokens: Tokens, params: LateChunkingParams) -> LateChunking:
    """Where the chunks of a text lie; `tokens` need their offsets."""
    count, offsets = len(tokens.ids), tokens.offsets
    assert offsets is not None
    if params.char_spans is not None:
        cut = tuple(Chunk(_tokens(offsets, span), span) for span in params.char_spans)
        return LateChunking(count, cut, strategy="char_spans")
    size = min(params.chunk_size or count, count)
    ranges = [(start, min(start + size, count)) for start in range(0, count, size)]
    cut = tuple(Chunk(span, _characters(offsets[slice(*span)])) for span in ranges)
    return LateChunking(count, cut, params.chunk_size)


def _characters(offsets: np.ndarray) -> tuple[int, int] | None:
    real = offsets[offsets[:, 0] < offsets[:, 1]]
    return (int(real[:, 0].min()), int(real[:, 1].max())) if len(real) else None


def _tokens(offsets: np.ndarray, span: tuple[int, int]) -> tuple[int, int]:
    start, end = span
    inside = (offsets[:, 0] < end) & (offsets[:, 1] > start) & (offsets[:, 0] < offsets[:, 1])
    if not inside.any():
        raise RequestError(f"char_spans: no token lies in characters {start} to {end}")
    places = np.flatnonzero(inside)
    return int(places[0]), int(places[-1]) + 1


def split(request: Prepared) -> list[Prepared]:
    """The requests for a text's chunks, each for at most as many as a row can hold."""
    assert request.chunks is not None
    spans = np.array([chunk.token_range for chunk in request.chunks.chunks], np.int32)
    room = -(-len(request.ids) // TOKENS_PER_CHUNK)
    return [replace(request, spans=spans[i : i + room]) for i in range(0, len(spans), room)]


def join(parts: Sequence[Prepared], vectors: Sequence[np.ndarray]) -> np.ndarray:
    """The vectors of a text's chunks `[C, F]` from those of its requests."""
    return np.concatenate(vectors)
