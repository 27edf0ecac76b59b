"""Late chunking: a text is encoded whole, then each chunk's tokens are averaged and projected.

Source: Günther et al., arXiv 2409.04701.
"""

from collections.abc import Iterator, Sequence

import jax
import numpy as np

from jaxpool import heads
from jaxpool.batch import Request, fill, place
from jaxpool.errors import RequestError
from jaxpool.outputs import Chunk, LateChunking
from jaxpool.requests import LateChunkingParams
from jaxpool.sharding import local
from jaxpool.task import HIDDEN, Task
from jaxpool.tokenize import Tokens

BLOCK = 64  # chunks whose vectors go through the head at once


def chunks(tokens: Tokens, params: LateChunkingParams) -> LateChunking:
    """Where the chunks of a text lie; `tokens` need their offsets."""
    count = len(tokens.ids)
    if params.chunk_size is not None:
        size = min(params.chunk_size, count)
        ranges = [(start, min(start + size, count)) for start in range(0, count, size)]
        cut = tuple(Chunk(span, _characters(tokens.offsets[slice(*span)])) for span in ranges)
        return LateChunking(count, cut, params.chunk_size)
    cut = tuple(Chunk(_tokens(tokens.offsets, span), span) for span in params.char_spans)
    return LateChunking(count, cut, strategy="char_spans")


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


def run(model, task: Task, requests: Sequence) -> Iterator[tuple[int, np.ndarray]]:
    """`(request, its chunks' vectors [chunks, F])`; the head runs on the means, not the tokens."""
    for index, hidden in model.run(HIDDEN, requests):
        spans = [chunk.token_range for chunk in requests[index].chunks.chunks]
        means = np.stack([hidden[a:b].mean(axis=0, dtype=np.float32) for a, b in spans])
        yield index, _project(model, task, means, requests[index])


def _project(model, task: Task, means: np.ndarray, request) -> np.ndarray:
    """Apply the head of token vectors to chunk vectors, which pose as the tokens of texts."""
    blocks = []
    for start in range(0, len(means), BLOCK):
        block = means[start : start + BLOCK]
        arguments = _posing(model, block, request.dimensions, request.activate)
        out = model.executor.apply(heads.run, *arguments, static=(task.steps,))
        blocks.append(np.asarray(out)[0, : len(block)])
    return np.concatenate(blocks)


def _posing(model, block: np.ndarray, *options) -> tuple:
    """What `heads.run` takes, for vectors `[up to BLOCK, D]` as the tokens of one text."""
    text = Request(np.zeros(len(block), np.int32), None, *options)
    batch, controls = fill(place([[0]], 1, BLOCK, [len(block)]), [text])
    hidden = np.zeros((1, BLOCK, block.shape[1]), np.float32)
    hidden[0, : len(block)] = block
    weights = jax.tree.map(local, model.params.get("heads", {}))
    return weights, hidden, batch, controls


def compile_programs(model) -> None:
    """Compile what late chunks run beside batches, in models that have token vectors."""
    arguments = _posing(model, np.zeros((1, model.arch.dim), np.float32))
    for task in model.engine.programs.tasks:
        if task.name == "token_embed":
            for path in task.paths:
                model.executor.program(heads.run, *arguments, static=(path.steps,))
