"""A call of the offline API: prompts to results in their order, under a progress bar."""

from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from functools import partial
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
    first, *others = _windows(len(prompts), most)
    requests, results, failed = make(first), [], []
    tokenizer = ThreadPoolExecutor(1)

    def done() -> None:
        progress.update()
        if failed:
            failed[0].result()

    with closing(bar(use_tqdm, len(prompts))) as progress:
        try:
            ahead = [tokenizer.submit(make, window) for window in others]
            for future in ahead:
                future.add_done_callback(partial(_note, failed))
            results += collect(model, task, requests, done)
            for future in ahead:
                requests += future.result()
                results += collect(model, task, future.result(), done)
        finally:
            tokenizer.shutdown(wait=False, cancel_futures=True)
    return requests, results


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
