"""From a validated body to results: tokenize, queue, wait, give up when the client does."""

import asyncio
import math
import time
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from fastapi import Request

from serving.batches import Batches
from serving.config import Options
from serving.device import Failed, Owner
from serving.errors import APIError, Gone, refusing
from serving.job import Job
from serving.metrics import Metrics
from serving.middleware import header
from serving.models import Registry, Served
from serving.queue import Queue

INLINE = 4096  # characters that are tokenized at once, without a thread in between
TOKENIZERS = 2
PATIENCE = 30  # seconds a request may be tokenized
LOADERS = 8  # requests whose pictures are fetched and decoded
DEPTH = 2  # batches on the device: one is answered while the other computes, on CPU side by side


class Service:
    """What the routes share."""

    def __init__(self, options: Options):
        self.options = options
        self.owner = Owner(DEPTH, self._batch)
        self.models = Registry(options, self.owner)
        self.metrics = Metrics(lambda: self.models.served)
        self.active = 0
        self.batches: Batches | None = None
        self.threads = tokenizing_threads()
        self.templates = ThreadPoolExecutor(TOKENIZERS, thread_name_prefix="template")
        self.loaders = ThreadPoolExecutor(LOADERS, thread_name_prefix="load")

    def start(self) -> None:
        """Start the device thread; its first work is to load the models."""
        self.owner.begin(self.models.load)

    async def stop(self) -> None:
        """End the threads."""
        self.owner.stop()
        for threads in (self.threads, self.templates, self.loaders):
            threads.shutdown(wait=False)
        for served in self.models.served:
            await asyncio.to_thread(served.queue.engine.stop)
        await asyncio.to_thread(self.owner.join, 5)
        if self.models.leader:
            self.models.leader.close()

    @property
    def load(self) -> int:
        """Requests being answered, if they are counted."""
        return self.active if self.options.enable_server_load_tracking else 0

    async def check_health(self) -> None:
        """Raise unless every model is loaded and the device answers within the timeout."""
        if self.models.state != "ready":
            raise APIError(503, self.models.state, retry_after=1)
        try:
            async with asyncio.timeout(self.options.health_timeout):
                await self.owner.probe()
        except TimeoutError:
            raise APIError(503, "The engine does not answer") from None
        except ConnectionError as error:  # another process of the server
            raise APIError(503, str(error)) from None

    async def prepare(
        self, served: Served, size: float, function: Callable[[], Any], loads: bool = False
    ) -> Any:
        """Call a function that tokenizes `size` characters; what it refuses is a 400.

        loads: it reads pictures too, which may take its thread as long as a host takes to send one.
        """
        try:
            served.queue.check()  # before the work of tokenizing
        except APIError as error:
            self._refused(served.label, error)
            raise
        begun = time.perf_counter()
        with refusing():
            if size <= INLINE and not loads and not served.model.tokenizer.patterned:
                result = function()
            elif loads:
                result = await asyncio.get_running_loop().run_in_executor(self.loaders, function)
            else:
                result = await self._aside(function)
        seconds = time.perf_counter() - begun
        self.metrics.tokenizing(served.label).observe(seconds)
        return result

    async def _aside(self, function: Callable[[], Any]) -> Any:
        """Call a function that tokenizes in a thread.

        A pattern of a tokenizer may take as long as it likes: after `PATIENCE` seconds its thread
        is left to itself, and texts that come later have new ones.
        """
        threads = self.threads
        try:
            async with asyncio.timeout(PATIENCE):
                return await asyncio.get_running_loop().run_in_executor(threads, function)
        except TimeoutError:
            if threads is self.threads:
                self.threads = tokenizing_threads()
                threads.shutdown(wait=False)
            raise APIError(503, f"The texts were not tokenized within {PATIENCE} s") from None

    async def render(self, served: Served, template: str, conversations: list, options: dict):
        """The prompts of conversations; a template that takes its time keeps no text waiting."""

        def run() -> list[str]:
            from jaxpool.text.rendering import render

            tokens = served.model.tokenizer.transformers.special_tokens_map
            return render(template, conversations, tokens | options)

        with refusing():
            return await asyncio.get_running_loop().run_in_executor(self.templates, run)

    async def compute(
        self, served: Served, task: Any, requests: list, priority: int, request: Request
    ) -> Job:
        """The finished job of some requests; cancelled if the client disconnects."""
        deadline = deadline_of(request)
        try:
            with served.slot.used(served.name, requests) as own:
                job = await while_connected(
                    request, _computed(served.queue, task, own, priority, deadline)
                )
        except APIError as error:
            self._refused(served.label, error)
            raise
        except (asyncio.CancelledError, Gone):
            self.metrics.success(served.label, "0", "abort").inc()
            raise
        self.metrics.job(served.label, job)
        return job

    def _refused(self, name: str, error: APIError) -> None:
        if error.status == 429:
            self.metrics.rejections(name, "queue").inc()
        else:
            self.metrics.success(name, "0", "error").inc()

    def _batch(self, queue, parts: list, seconds: float) -> None:
        served = next(served for served in self.models.served if served.queue is queue)
        self.metrics.batch(served.name, parts, queue.engine.computed)


def tokenizing_threads() -> ThreadPoolExecutor:
    """Threads for texts that the event loop does not tokenize by itself."""
    return ThreadPoolExecutor(TOKENIZERS, thread_name_prefix="tokenize")


async def _computed(queue: Queue, task: Any, requests: Sequence, *how: Any) -> Job:
    try:
        await queue.engine.available(task, requests)
    except Exception as error:
        raise Failed(error) from error
    return await queue.submit(task, requests, *how)


def deadline_of(request: Request) -> float:
    """When the `x-request-timeout` header (seconds) ends, on the monotonic clock."""
    text = header(request.scope, b"x-request-timeout").decode("latin-1")
    if not text:
        return math.inf
    try:
        seconds = float(text)
    except ValueError:
        seconds = math.nan
    if not seconds > 0:
        raise APIError(400, f"x-request-timeout must be a positive number of seconds, got {text!r}")
    return time.monotonic() + seconds


async def while_connected(request: Request, work: Awaitable) -> Any:
    """Await `work`; cancel it and raise `Gone` if the client disconnects first.

    `protocol.Protocol` tells of that; under another server a client that leaves is not noticed.
    """
    me, gone = asyncio.current_task(), False
    assert me is not None  # a coroutine runs in a task

    def leave() -> None:
        nonlocal gone
        gone = True
        me.cancel()

    connection = request.scope["state"].get("connection")
    if connection:
        connection.leaving.add(leave)
    try:
        return await work
    except asyncio.CancelledError:
        if gone and not me.uncancel():
            raise Gone from None
        raise
    finally:
        if connection:
            connection.leaving.discard(leave)


def timings(*jobs: Job) -> dict[str, str]:
    """Response headers: milliseconds in the queue and on the device; tokens; texts cut."""
    queued = sum(job.times.queued for job in jobs)
    computing = sum(job.times.computing for job in jobs)
    return {
        "x-queue-time": f"{queued * 1e3:.3f}",
        "x-inference-time": f"{computing * 1e3:.3f}",
        "x-tokens": str(sum(job.tokens for job in jobs)),
        "x-truncated": str(sum(job.truncated for job in jobs)),
    }
