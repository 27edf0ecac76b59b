"""A call of the offline API: prompts to results in their order, under a progress bar."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from functools import partial
from itertools import islice
from typing import Any

from tqdm import tqdm

from jaxpool.compute import collect
from jaxpool.inputs import Prepared, prepare
from jaxpool.prompts import as_prompts
from jaxpool.requests import PoolingParams
from jaxpool.task import Task
from jaxpool.validate import check_count

WINDOW = 16384  # prompts planned together: fewer pad more, more wait longer for the tokenizer


def run(
    model,
    task: Task | tuple[Task, ...],
    prompts: Any,
    params: PoolingParams | Sequence[PoolingParams] | None = None,
    use_tqdm: bool | Callable = False,
    **options: Any,
) -> tuple[list[Prepared], list]:
    """The requests of prompts (see `jaxpool.inputs.prepare`) and their results.

    What is beyond a window is tokenized in a thread while the device computes; a prompt that is
    refused there ends the call then, not when its turn comes. Of several processes, all of which
    must run the same batches, each checks all prompts first.
    """
    prompts = as_prompts(prompts)
    check_count(len(prompts), params)
    make = partial(_prepare, model, task, prompts, params, options)
    most = len(prompts) if model.mesh.is_multi_process else WINDOW
    windows = _windows(len(prompts), most)
    requests, results, failed = [], [], []

    def done() -> None:
        progress.update()
        if failed:
            failed[0].result()

    with (
        closing(bar(use_tqdm, len(prompts))) as progress,
        closing(_ahead(make, windows, len(windows), failed)) as prepared,
    ):
        for window in prepared:
            requests += window
            results += collect(model, task, window, done)
    return requests, results


def stream(model, task: Task, windows: Iterable[list], **options: Any) -> Iterator[list]:
    """The results of each of some lists of prompts, as `run` gives them, in constant memory."""
    make = partial(prepare, model, task, **options)
    with closing(_ahead(make, windows, 1, [])) as prepared:
        for requests in prepared:
            yield collect(model, task, requests)


def _ahead(
    make: Callable, windows: Iterable, most: int, failed: list[Future]
) -> Iterator[list[Prepared]]:
    """The requests of each window, while those of up to `most` further ones are made in a thread.

    What cannot be made is in `failed` at once.
    """
    windows, tokenizer, making = iter(windows), ThreadPoolExecutor(1), deque()
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
    """Even parts of `count` prompts, of `most` at most."""
    size = -(-count // -(-count // most))
    return [slice(start, start + size) for start in range(0, count, size)]


def _note(failed: list[Future], future: Future) -> None:
    if not future.cancelled() and future.exception():
        failed.append(future)


def _prepare(model, task, prompts: list, params, options: dict, window: slice) -> list[Prepared]:
    each = params is not None and not isinstance(params, PoolingParams)
    return prepare(model, task, prompts[window], params[window] if each else params, **options)


def bar(use_tqdm: bool | Callable, total: int):
    """The progress bar of a call: tqdm's, shown or not, or the one a callable builds."""
    make = use_tqdm if callable(use_tqdm) else partial(tqdm, disable=not use_tqdm)
    return make(total=total, desc="Processed prompts", dynamic_ncols=True)
