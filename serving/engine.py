"""The device thread's view of a loaded model: batches, warm-up, health."""

import logging
import threading
from collections.abc import Sequence
from typing import Any

log = logging.getLogger("jaxpool.serving")


class ModelEngine:
    """Runs a `jaxpool.Model` in the two steps the device thread wants."""

    def __init__(self, model: Any):
        self.model, self.engine = model, model.engine
        self.computed = 0  # tokens of the latest batch with its padding
        self._stopping = threading.Event()
        self._warming: threading.Thread | None = None

    @property
    def budget(self) -> int:
        """Tokens to take at once: on CPU those of two batches, which fill each other's gaps."""
        from jaxpool.engine import DISPATCHERS

        return self.engine.budget * (DISPATCHERS if in_flight() == 1 else 1)

    @property
    def compilations(self) -> int:
        """Programs compiled so far."""
        return self.model.executor.compilations

    def start(self, task: Any, requests: list) -> tuple:
        """Dispatch what is one forward; texts in chunks wait for `finish`."""
        limit = self.model.max_length
        whole = all(request.chunks is None and len(request.ids) <= limit for request in requests)
        flight = self.engine.start(task, requests) if whole or isinstance(task, tuple) else None
        return task, requests, flight

    def finish(self, started: tuple) -> list:
        """The results, in the order of the requests."""
        from jaxpool.compute import compute

        task, requests, flight = started
        before = self.engine.computed_tokens
        if flight is None:
            results: list = [None] * len(requests)
            for index, result in compute(self.model, task, requests):
                results[index] = result
            self.computed = self.engine.computed_tokens - before
            return results
        self.computed = sum(plan.rows * plan.length for plan, _ in flight.batches)
        found = self.engine.finish(flight)
        return [request.finish(one) for request, one in zip(requests, found, strict=True)]

    def ping(self) -> None:
        """A scalar there and back."""
        import jax

        jax.device_get(jax.device_put(0, jax.local_devices()[0]))

    def warm(self, first: Any, others: Sequence[Any]) -> None:
        """Compile the longest rows of a task, then in a thread the rest, then the other tasks.

        Plans use only row lengths that are ready, so traffic flows as soon as this returns.
        """
        rungs = self.engine.rungs
        keys = self.engine.keys([first])
        self.engine.rungs = rungs[-1:]
        self._compile([key for key in keys if key[2] == rungs[-1]])

        def rest():
            try:
                for rung in rungs[:-1]:
                    self._compile([key for key in keys if key[2] == rung])
                    self.engine.rungs = tuple(sorted({*self.engine.rungs, rung}))
                self._compile(self.engine.keys(others))
                log.info("%s: %d programs ready", self.model.name, self.compilations)
            except Exception:
                self.engine.rungs = rungs
                log.exception("the warm-up of %s failed", self.model.name)

        self._warming = threading.Thread(target=rest, name="warm-up", daemon=True)
        self._warming.start()

    def stop(self) -> None:
        """End the warm-up after the program it is compiling."""
        self._stopping.set()
        if self._warming:
            self._warming.join()

    def _compile(self, keys: list) -> None:
        for key in keys:
            if not self._stopping.is_set():
                self.model.executor.compiled(key)


def load_model(path: str, options: Any) -> Any:
    """`jaxpool.load` with the options of the command line."""
    import jaxpool

    return jaxpool.load(
        path,
        runner=options.runner,
        convert=options.convert,
        dtype=options.dtype,
        revision=options.revision,
        max_model_len=options.max_model_len,
        max_num_batched_tokens=options.max_num_batched_tokens,
        hf_overrides=options.hf_overrides or None,
        pooler_config=options.pooler_config or None,
        quantization=options.quantization,
        batch_invariant=options.batch_invariant,
        tensor_parallel_size=options.tensor_parallel_size,
        data_parallel_size=options.data_parallel_size,
    )


def in_flight() -> int:
    """Batches worth having on the device at once: on CPU a second one only takes turns."""
    import jax

    return 1 if jax.default_backend() == "cpu" else 2
