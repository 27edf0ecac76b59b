"""A call of the offline API: prompts to results in their order, under a progress bar."""

import logging
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from functools import cache, partial
from itertools import accumulate, islice
from typing import Any, cast

import numpy as np
from tqdm import tqdm

from jaxpool.heads.precision import pack
from jaxpool.images.prepare import joined, joins, pictures
from jaxpool.tasks.entities import Entity
from jaxpool.tasks.entities import entities as spans
from jaxpool.tasks.pooling_params import PoolingParams
from jaxpool.tasks.task import Task
from jaxpool.tasks.validate import check_count
from jaxpool.text import late_chunking, long_text
from jaxpool.text.prepare import prepare as texts
from jaxpool.text.prepared import Prepared
from jaxpool.text.prompts import Pictures, as_prompts

log = logging.getLogger("jaxpool")

# Prompts planned together: fewer pad more, and the device waits for the tokens of the first.
FIRST, WINDOW = 2048, 16384
PICTURES, AHEAD = 256, 2  # prompts and windows where there are pictures, whose patches take memory


def prepare(
    model,
    task: Task | tuple[Task, ...],
    prompts: Any,
    params: PoolingParams | Sequence[PoolingParams] | None = None,
    tokenization_kwargs: Mapping[str, Any] | None = None,
    **options: Any,
) -> list[Prepared]:
    """One request a prompt, in order: `jaxpool.text.prepare.prepare` makes those of texts.

    Where pictures are read by themselves, instructions are for texts alone. RequestError where the
    model takes no pictures, or not these.
    """
    prompts = as_prompts(prompts)
    kind = options.get("input_type")
    seen = [i for i, prompt in enumerate(prompts) if joins(model, task, prompt, kind)]
    if not seen:
        return texts(model, task, prompts, params, tokenization_kwargs, **options)
    read = sorted(set(range(len(prompts))) - set(seen))
    given, settings = [prompts[i] for i in seen], _of(params, seen)
    if model.conversation is None:
        found = pictures(model, task, given, settings)
    else:
        found = joined(model, task, given, settings, tokenization_kwargs, **options)
    if read:
        given, settings = [prompts[i] for i in read], _of(params, read)
        found += texts(model, task, given, settings, tokenization_kwargs, **options)
    order = np.argsort(seen + read)
    return [found[i] for i in order]


def _of(params, indices: list[int]):
    """The parameters of some prompts: those of all, or of each."""
    each = params is not None and not isinstance(params, PoolingParams)
    return [params[i] for i in indices] if each else params


def run(
    model,
    task: Task | tuple[Task, ...],
    prompts: Any,
    params: PoolingParams | Sequence[PoolingParams] | None = None,
    use_tqdm: bool | Callable = False,
    way: Callable = prepare,
    **options: Any,
) -> tuple[list[Prepared], list]:
    """The requests of prompts, by `prepare` or another `way` to make them, and their results.

    Prompts beyond the first window are tokenized in a thread while the device computes; a prompt
    that is refused there ends the call at once, not when its turn comes. With several processes,
    which must run the same batches, each checks all prompts first.
    """
    prompts = as_prompts(prompts)
    check_count(len(prompts), params)
    make = partial(_prepare, partial(way, model, task), prompts, params, options)
    seen = any(isinstance(prompt, Pictures) for prompt in prompts)
    most = PICTURES if seen else WINDOW
    whole = model.mesh.is_multi_process
    windows = [slice(0, len(prompts))] if whole else _windows(len(prompts), most)
    ahead = AHEAD if seen else len(windows)
    requests: list[Prepared] = []
    results: list = []
    failed: list[Future] = []

    def done() -> None:
        progress.update()
        if failed:
            failed[0].result()

    with (
        closing(bar(use_tqdm, len(prompts))) as progress,
        closing(_ahead(make, windows, ahead, failed)) as prepared,
    ):
        for window in prepared:
            requests += window
            results += collect(model, task, window, done)
    return requests, results


def entities(
    model,
    texts: str | Sequence[str],
    use_tqdm: bool | Callable = False,
    aggregation: str = "simple",
    ignore: Sequence[str] = ("O",),
    tokenization_kwargs: Mapping[str, Any] | None = None,
) -> list[list[Entity]]:
    """The labelled spans of each text, from the classes of its tokens (see `tasks.entities`)."""
    texts = [texts] if isinstance(texts, str) else list(texts)
    if not all(isinstance(text, str) for text in texts):
        raise TypeError("entities are spans of characters: every prompt must be a text")
    task, labels = model.task("token_classify"), model.model_config.id2label
    options: Any = {"tokenization_kwargs": tokenization_kwargs, "offsets": True}
    requests, results = run(model, task, texts, None, use_tqdm, **options)
    found = []
    for text, r, probs in zip(texts, requests, results, strict=True):
        offsets = cast(np.ndarray, r.offsets)
        asked = (model.tokenizer, labels, aggregation, ignore)
        found.append(spans(text, r.ids, offsets, probs, *asked))
    return found


def stream(model, task: Task, windows: Iterable[list], **options: Any) -> Iterator[list]:
    """The results of each list of prompts, as `run` gives them, in constant memory."""
    make = partial(prepare, model, task, **options)
    with closing(_ahead(make, windows, 1, [])) as prepared:
        for requests in prepared:
            yield collect(model, task, requests)


def _ahead(
    make: Callable, windows: Iterable, most: int, failed: list[Future]
) -> Generator[list[Prepared], None, None]:
    """Yields the requests of each window; a thread prepares those of up to `most` further windows.

    `failed` receives the future of a window that cannot be prepared, as soon as it has failed.
    """
    windows, tokenizer = iter(windows), ThreadPoolExecutor(1)
    making: deque[Future] = deque()
    requests = next(map(make, windows), None)  # nothing is computed yet: no thread
    try:
        while requests is not None:
            for window in islice(windows, most - len(making)):
                making.append(tokenizer.submit(make, window))
                making[-1].add_done_callback(partial(_note, failed))
            yield requests
            requests = making.popleft().result() if making else None
    finally:
        tokenizer.shutdown(wait=False, cancel_futures=True)


def _windows(count: int, most: int) -> list[slice]:
    """Parts of `count` prompts, each of twice as many as the one before, `most` at most."""
    windows, start, size = [], 0, min(FIRST, most)
    while start < count:
        windows.append(slice(start, start + size))
        start, size = start + size, min(2 * size, most)
    return windows


def _note(failed: list[Future], future: Future) -> None:
    if not future.cancelled() and future.exception():
        failed.append(future)


def _prepare(way: Callable, prompts: list, params, options: dict, window: slice) -> list[Prepared]:
    each = params is not None and not isinstance(params, PoolingParams)
    return way(prompts[window], params[window] if each else params, **options)


def bar(use_tqdm: bool | Callable, total: int):
    """The progress bar of a call: tqdm's, shown or not, or the one a callable builds."""
    make = use_tqdm if callable(use_tqdm) else partial(tqdm, disable=not use_tqdm)
    return make(total=total, desc="Processed prompts", dynamic_ncols=True)


def compute(
    model, task: Task | tuple[Task, ...], requests: Sequence[Prepared]
) -> Iterator[tuple[int, Any]]:
    """Yields `(index of the request, its result)` as batches finish, in any order.

    For several tasks a result is a tuple. The first text of a model that is cut is told of.
    """
    if any(request.cut for request in requests):
        _tell(model.name)
    late = [i for i, request in enumerate(requests) if request.chunks is not None]
    plain = [i for i, request in enumerate(requests) if request.chunks is None]
    for indices, run in ((late, _in_chunks), (plain, _plain)):
        if indices:
            for index, result in run(model, task, [requests[i] for i in indices]):
                yield indices[index], requests[indices[index]].finish(result)


@cache
def _tell(name: str) -> None:
    log.warning("%s: texts are cut to the length asked for; what is beyond it does not count", name)


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


def score(model, scoring, use_tqdm) -> Any:
    """What comes of the parts of a `scoring.pairs.Scoring`, computed one after the other."""
    results: list = []
    for part in scoring.parts:
        given = part.after(results)
        with closing(bar(use_tqdm, len(given))) as progress:
            results += collect(model, part.task, given, progress.update)
    return scoring.combine(results)


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
    """Run the parts of each request; `join` makes one result of those of its parts."""
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
