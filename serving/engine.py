"""The device thread's view of a loaded model."""

from typing import Any


class ModelEngine:
    """Runs a `jaxpool.Model` in the two steps the device thread wants."""

    def __init__(self, model: Any, budget: int | None = None):
        self.model = model
        self.budget = budget or model.engine.budget
        self.computed = 0

    @property
    def compilations(self) -> int:
        """Programs compiled so far."""
        return self.model.executor.compilations

    def start(self, task: Any, requests: list) -> tuple:
        """Nothing is done before `finish`."""
        return task, requests

    def finish(self, started: tuple) -> list:
        """The results, in the order of the requests."""
        task, requests = started
        results: list = [None] * len(requests)
        for index, result in self.model.run(task, requests):
            results[index] = requests[index].finish(result)
        return results

    def ping(self) -> None:
        """A scalar there and back."""
        import jax

        jax.device_get(jax.device_put(0, jax.local_devices()[0]))


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
        hf_overrides=options.hf_overrides or None,
        pooler_config=options.pooler_config or None,
        tensor_parallel_size=options.tensor_parallel_size,
        data_parallel_size=options.data_parallel_size,
    )
