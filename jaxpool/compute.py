"""From prepared requests to finished results: what `LLM` and the server call."""

from collections.abc import Callable, Iterator, Sequence
from itertools import accumulate
from typing import Any

import numpy as np

from jaxpool import late_chunking, long_text
from jaxpool.inputs import Prepared
from jaxpool.precision import pack
from jaxpool.task import Task


def compute(
    model, task: Task | tuple[Task, ...], requests: Sequence[Prepared]
) -> Iterator[tuple[int, Any]]:
    """Yields `(index of the request, its result)` as they are done, in any order.

    Several tasks give a tuple of results.
    """
    late = [i for i, request in enumerate(requests) if request.chunks is not None]
    plain = [i for i, request in enumerate(requests) if request.chunks is None]
    for indices, run in ((late, _in_chunks), (plain, _plain)):
        if indices:
            for index, result in run(model, task, [requests[i] for i in indices]):
                yield indices[index], requests[indices[index]].finish(result)


def collect(
    model,
    task: Task | tuple[Task, ...],
    requests: Sequence[Prepared],
    done: Callable[[], None] = lambda: None,
) -> list:
    """The results of requests in their order; `done` is called after each."""
    results: list = [None] * len(requests)
    for index, result in compute(model, task, requests):
        results[index] = result
        done()
    return results


def exact(task: Task | tuple[Task, ...]) -> Task:
    """The task whose results are joined on the host, before it quantizes them."""
    return (task[0] if isinstance(task, tuple) else task).at("float32")


def _in_chunks(model, task, requests: Sequence[Prepared]) -> Iterator[tuple[int, Any]]:
    parts = [late_chunking.split(request) for request in requests]
    for index, vectors in _joined(model, exact(task).chunked, parts, late_chunking.join):
        yield index, _packed(task, vectors)


def _plain(model, task, requests: Sequence[Prepared]) -> Iterator[tuple[int, Any]]:
    if all(len(request.ids) <= model.max_length for request in requests):
        return model.run(task, requests)
    return _in_pieces(model, task, requests)


def _in_pieces(model, task, requests) -> Iterator[tuple[int, Any]]:
    special = model.pooler_config.chunk_special_tokens
    affixes = model.tokenizer.affixes if special else ([], [])
    parts = [long_text.split(request, model.max_length, affixes) for request in requests]
    for index, vector in _joined(model, exact(task), parts, long_text.join):
        yield index, _packed(task, vector)


def _joined(
    model, task: Task, parts: list[list[Prepared]], join: Callable
) -> Iterator[tuple[int, np.ndarray]]:
    """Run the parts that stand for each request, whose results `join` makes one of."""
    firsts = [0, *accumulate(map(len, parts))]
    owners = np.repeat(np.arange(len(parts)), list(map(len, parts)))
    waiting = [[None] * len(part) for part in parts]
    left = [len(part) for part in parts]
    for piece, result in model.run(task, [piece for part in parts for piece in part]):
        owner = int(owners[piece])
        waiting[owner][piece - firsts[owner]] = result
        left[owner] -= 1
        if not left[owner]:
            yield owner, join(parts[owner], waiting[owner])


def _packed(task: Task | tuple[Task, ...], vectors: np.ndarray) -> Any:
    """Vectors as the device gives them in the precision, or precisions, of a call."""
    if isinstance(task, tuple):
        return tuple(pack(vectors, one.precision) for one in task)
    return pack(vectors, task.precision)
