"""The vision tower of a model on the device: its batches, and what is compiled for them."""

from collections.abc import Sequence
from concurrent.futures import Future
from typing import Any

from jaxpool.images.towers import Started, TowerEngine
from jaxpool.tasks.task import of_pictures, taking_pictures
from serving.warmup import Warmup


class Pictures:
    """Runs the requests of pictures by themselves, beside those of texts."""

    def __init__(self, tower: TowerEngine):
        self.tower, self.engine = tower, tower.engine
        self._warmup: Warmup | None = None

    def warm(self, tasks: Sequence | None) -> None:
        """Compile what some tasks need (None: all), in a thread."""
        exact = self.engine.options.batch_invariant
        self._warmup = Warmup(self.engine.executor, self.engine.shapes, exact)
        self._warmup.start()
        wanted = taking_pictures(tasks)
        for chains in [] if wanted == [] else self.engine.programs.serving(wanted):
            self._warmup.want(chains)

    def waits(self, task: Any, requests: Sequence) -> list[Future]:
        """What has to be compiled before pictures are computed."""
        if not self._warmup:
            return []
        program = self.engine.programs.of(of_pictures(task))
        longest = max(map(self.tower.length, requests))
        return self._warmup.demand([program], longest)

    def start(self, task: Any, requests: Sequence) -> Started:
        """Dispatch their batches."""
        for made in self.waits(task, requests):
            made.result()
        if self._warmup:
            program = self.engine.programs.of(of_pictures(task))
            self.engine.buckets = self._warmup.lengths([program])
        return self.tower.start(of_pictures(task), requests)

    def stop(self) -> None:
        """End the warm-up."""
        if self._warmup:
            self._warmup.stop()
