"""The devices of this process: their thread, the models on them, and what is asked of them."""

import asyncio
import logging
import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from serving import adapters, followers
from serving.config import LoraModule, Options
from serving.device import Failed, Owner
from serving.job import Job
from serving.metrics import Metrics
from serving.models import Registry, Served, modules_of, served_names, template
from serving.process import keep_out_of_collections

log = logging.getLogger("jaxpool.serving")

DEPTH = 2  # batches on the device: one is answered while the other computes, on CPU side by side


class Local:
    """The models of a server on the devices of this process (see `devices.Devices`).

    limit: tokens that may wait for each model; engine: the label of its metrics.
    """

    def __init__(self, options: Options, limit: int | None = None, engine: str = "0"):
        self.options = options
        self.limit = limit or options.max_queued_tokens
        self.owner = Owner(DEPTH, self._batch)
        self.models = Registry(options)
        self.metrics = Metrics(lambda: self.models.served, engine)
        self.leader: Any = None  # of the processes of a distributed server

    def start(self) -> None:
        """Start the device thread; its first work is to load the models."""
        self.owner.begin(self._load)

    async def settled(self) -> None:
        """The server listens while its models are being loaded."""

    async def stop(self) -> None:
        """End the thread, and what compiles beside it."""
        self.owner.stop()
        for served in self.models.served:
            await asyncio.to_thread(served.queue.engine.stop)
        await asyncio.to_thread(self.owner.join, 5)
        if self.leader:
            self.leader.close()

    def _load(self) -> None:
        """Load every model, in the order of the command line; runs on the device thread."""
        try:
            if self.options.distributed:
                self.leader = followers.lead()
            names = served_names(self.options)
            modules = modules_of(self.options, names)
            for args in zip(self.options.models, names, modules, strict=True):
                self._load_model(*args)
            keep_out_of_collections()
        except Exception as error:
            self.models.error = f"{type(error).__name__}: {error}"
            log.critical("cannot load the model", exc_info=error)
            raise

    def _load_model(self, path: str, names: list[str], modules: list[LoraModule]) -> None:
        from jaxpool.loras import Loras
        from serving.engine import ModelEngine
        from serving.loading import load_model

        begun = time.monotonic()
        model = load_model(path, self.options, names[0])
        if self.leader:
            model.executor.tell = partial(self.leader.order, len(self.models.served))
        engine = ModelEngine(model, self.leader)
        if self.options.warmup != "none":
            engine.warm(model.task(), self.options.warmup == "all")
        served = Served(
            names,
            path,
            model,
            engine.budget,
            model.fingerprint,
            self.owner.add(engine, self.limit),
            Loras(model.executor, model.checkpoint, model.options),
            template(self.options),
        )
        self.models.adapters |= {module.name: served.adapted(module) for module in modules}
        self.models.served.append(served)
        seconds, space = time.monotonic() - begun, model.fingerprint
        log.info("model %s ready after %.1f s, fingerprint %s", names[0], seconds, space)

    def check(self, served: Served) -> None:
        """Raise `Overloaded` if a job that arrives now would be refused."""
        served.queue.check()

    async def compute(
        self, served: Served, task: Any, requests: Sequence, priority: int, deadline: float
    ) -> Job:
        """The finished job of some requests; cancelling the caller takes back what is queued."""
        with served.slot.used(served.name, requests) as own:
            try:
                await served.queue.engine.available(task, own)
            except Exception as error:
                raise Failed(error) from error
            return await served.queue.submit(task, own, priority, deadline)

    async def probe(self) -> None:
        """Pass through the thread and the device of every model."""
        await self.owner.probe()

    async def load_adapter(self, module: LoraModule) -> None:
        """Load an adapter of a folder while others compute."""
        await adapters.load(self.models, module)

    async def unload_adapter(self, name: str) -> None:
        """Take no more requests for an adapter, and forget it when those it has are done."""
        await adapters.unload(self.models, name)

    async def answering(self, active: int) -> int:
        """Requests being answered: there is no other process."""
        return active

    async def page(self) -> bytes:
        """The metrics of this process."""
        return self.metrics.text()

    def _batch(self, queue: Any, parts: list) -> Callable[[], None]:
        """What counts a batch in the metrics."""
        served = next(served for served in self.models.served if served.queue is queue)
        return partial(self.metrics.batch, served.name, parts, queue.engine.computed)
