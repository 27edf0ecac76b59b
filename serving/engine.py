"""The device thread's view of a loaded model: batches, warm-up, health."""

import asyncio
from collections.abc import Sequence
from concurrent.futures import Future
from typing import Any

import jax

from jaxpool.engine.engine import InFlight
from jaxpool.heads.steps import Chains
from jaxpool.offline import collect, exact
from jaxpool.tasks.task import Task
from serving.pictures import Pictures
from serving.warmup import Warmup


class ModelEngine:
    """Runs a `jaxpool.Model` in the two steps the device thread wants."""

    def __init__(self, model: Any, leader: Any = None):
        self.model, self.engine, self.leader = model, model.engine, leader
        seen = model.tower if not model.mesh.is_multi_process else None
        self.pictures = Pictures(seen) if seen else None
        self.computed = 0  # tokens of the latest batch with its padding
        self._warmup: Warmup | None = None

    @property
    def budget(self) -> int:
        """Tokens to take at once: those of a batch."""
        return self.engine.budget

    @property
    def compilations(self) -> int:
        """Programs compiled so far."""
        return self.model.executor.compilations

    def warm(self, first: Task, everything: bool) -> None:
        """Compile the first row lengths of a task; a thread compiles all the rest."""
        exact = self.engine.options.batch_invariant
        self._warmup = Warmup(self.model.executor, self.engine.shapes, exact)
        self._warmup.start()
        programs = self.engine.programs
        for usable in [self._warmup.want(programs.of(path)) for path in first.paths]:
            usable.result()
        for each in programs.serving(None if everything else [first]):
            self._warmup.want(each)
        if self.pictures:
            self.pictures.warm(None if everything else [first])

    async def available(self, task: Any, requests: Sequence) -> None:
        """Wait until the device can compute these requests without compiling."""
        for made in self._waits(task, requests):
            await asyncio.shield(asyncio.wrap_future(made))  # others wait for it too

    def _waits(self, task: Any, requests: Sequence) -> list[Future]:
        """What has to be compiled before some requests are computed."""
        read, seen = self._kinds(requests)
        pictures = self.pictures.waits(task, seen) if seen and self.pictures else []
        return pictures + (self._waits_of_texts(task, read) if read else [])

    def _waits_of_texts(self, task: Any, requests: Sequence) -> list[Future]:
        if not self._warmup:
            return []
        longest = max(len(request.ids) for request in requests)
        return self._warmup.demand(self._needs(task, requests), longest)

    def start(self, task: Any, requests: list) -> tuple:
        """Dispatch one forward; requests cut into chunks are computed in `finish`."""
        read, seen = self._kinds(requests)
        in_flight = None
        if read and not any(request.chunks or self._is_long(request) for request in read):
            self._keep_to_ready(task, read)
            in_flight = self.engine.start(task, read)
        pictures = self.pictures.start(task, seen) if seen and self.pictures else None
        return task, requests, read, in_flight, pictures

    def finish(self, started: tuple) -> list:
        """The results, in the order of the requests."""
        task, requests, read, in_flight, pictures = started
        self.computed = 0
        texts = iter(self._texts(task, read, in_flight))
        if not pictures:
            return list(texts)
        self.computed += _computed(pictures.in_flight)
        found = iter(self.pictures.tower.finish(pictures)) if self.pictures else iter(())
        return [r.finish(next(found)) if r.sees else next(texts) for r in requests]

    def _texts(self, task: Any, requests: Sequence, in_flight: InFlight | None) -> list:
        """The results of texts, in their order."""
        if in_flight:
            self.computed += _computed(in_flight)
            found = self.engine.finish(in_flight)
            return [request.finish(one) for request, one in zip(requests, found, strict=True)]
        if not requests:
            return []
        before = self.engine.computed_tokens
        self._keep_to_ready(task, requests)
        results = collect(self.model, task, requests)
        self.computed += self.engine.computed_tokens - before
        return results

    def _keep_to_ready(self, task: Any, requests: Sequence) -> None:
        """Let the engine plan with the row lengths that are compiled for these requests."""
        for made in self._waits_of_texts(task, requests):
            made.result()  # together they may need longer rows than each alone
        if self._warmup:
            self.engine.buckets = self._warmup.lengths(self._needs(task, requests))

    def _needs(self, task: Any, requests: Sequence) -> list[Chains]:
        """The programs that some requests of a task, or of several at once, run through."""
        late = [request for request in requests if request.chunks]
        tasks = [exact(task).chunked] if late else []
        if len(late) < len(requests):
            tasks.append(exact(task) if any(map(self._is_long, requests)) else task)
        return [self.engine.programs.of(each) for each in tasks]

    def _is_long(self, request: Any) -> bool:
        return len(request.ids) > self.model.max_length

    def _kinds(self, requests: Sequence) -> tuple[Sequence, Sequence]:
        """The requests of texts, and those of pictures."""
        seen = [request for request in requests if request.sees] if self.model.tower else []
        return ([r for r in requests if not r.sees] if seen else requests), seen

    def ping(self) -> None:
        """Send a scalar to the device and back; check that the other processes are alive."""
        if self.leader:
            self.leader.check()
        jax.device_get(jax.device_put(0, jax.local_devices()[0]))

    def stop(self) -> None:
        """End the warm-up."""
        if self._warmup:
            self._warmup.stop()
        if self.pictures:
            self.pictures.stop()


def _computed(in_flight: InFlight | None) -> int:
    batches = in_flight.batches if in_flight else ()
    return sum(plan.rows * plan.length for plan, _ in batches)
