"""From a validated body to results: tokenize, queue, wait, give up when the client does."""

import asyncio
import math
import time
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from fastapi import Request

from serving.batches import Batches
from serving.config import Options
from serving.devices import Devices
from serving.errors import APIError, Gone, refusing
from serving.job import Job
from serving.local import Local
from serving.middleware import header
from serving.models import Served

INLINE = 4096  # characters that are tokenized at once, without a thread in between
TOKENIZERS = 2
PATIENCE = 30  # seconds a request may be tokenized
LOADERS = 8  # requests whose pictures are fetched and decoded


class Service:
    """What the routes share. devices: where jobs are computed, in this process if not given."""

    def __init__(self, options: Options, devices: Devices | None = None):
        self.options = options
        self.devices = devices or Local(options)
        self.models, self.metrics = self.devices.models, self.devices.metrics
        self.active = 0
        self.batches: Batches | None = None
        self.threads = tokenizing_threads()
        self.templates = ThreadPoolExecutor(TOKENIZERS, thread_name_prefix="template")
        self.loaders = ThreadPoolExecutor(LOADERS, thread_name_prefix="load")

    def start(self) -> None:
        """Start what loads the models."""
        self.devices.start()

    async def begin(self) -> None:
        """Start, and wait until the server may listen."""
        self.start()
        await self.devices.settled()

    async def stop(self) -> None:
        """End the threads."""
        for threads in (self.threads, self.templates, self.loaders):
            threads.shutdown(wait=False)
        await self.devices.stop()

    async def load(self) -> int:
        """Requests being answered, if they are counted."""
        counted = self.options.enable_server_load_tracking
        return await self.devices.answering(self.active) if counted else 0

    async def check_health(self) -> None:
        """Raise unless every model is loaded and the device answers within the timeout."""
        if self.models.state != "ready":
            raise APIError(503, self.models.state, retry_after=1)
        try:
            async with asyncio.timeout(self.options.health_timeout):
                await self.devices.probe()
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
            self.devices.check(served)  # before the work of tokenizing
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
            job = await while_connected(
                request, self.devices.compute(served, task, requests, priority, deadline)
            )
        except APIError as error:
            self._refused(served.label, error)
            raise
        except (asyncio.CancelledError, Gone):
            self.metrics.success(served.label, "0", "abort").inc()
            raise
        # The answer goes first: whoever asks for metrics is answered later still.
        asyncio.get_running_loop().call_soon(self.metrics.job, served.label, job)
        return job

    def _refused(self, name: str, error: APIError) -> None:
        if error.status == 429:
            self.metrics.rejections(name, "queue").inc()
        else:
            self.metrics.success(name, "0", "error").inc()


def tokenizing_threads() -> ThreadPoolExecutor:
    """Threads for texts that the event loop does not tokenize by itself."""
    return ThreadPoolExecutor(TOKENIZERS, thread_name_prefix="tokenize")


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
