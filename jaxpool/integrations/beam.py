"""Apache Beam and Dataflow: `rows | RunInference(ModelHandler("a/model"))`."""

from collections.abc import Mapping, Sequence
from typing import Any

from apache_beam.ml.inference import base

from jaxpool.jobs.embedder import Embedder


class ModelHandler(base.ModelHandler[Mapping[str, Any], Mapping[str, Any], Embedder]):
    """Rows (dicts) in, rows with results out; options are those of `jaxpool.Embedder`.

    A worker loads the model once, and its threads share it. batch_size: rows together at most.
    """

    def __init__(self, model: str, task: str = "embed", *, batch_size: int = 1024, **options: Any):
        super().__init__()
        self.embedder = Embedder(model, task, **options)
        self.batch_size = batch_size

    def load_model(self) -> Embedder:
        """The embedder, its model loaded."""
        _ = self.embedder.fields
        return self.embedder

    def run_inference(
        self,
        batch: Sequence[Mapping[str, Any]],
        model: Embedder,
        inference_args: dict[str, Any] | None = None,
    ) -> list[Mapping[str, Any]]:
        """Rows with results, in their order."""
        return model(list(batch))

    def batch_elements_kwargs(self) -> dict[str, Any]:
        """How many rows Beam puts together."""
        return {"min_batch_size": min(64, self.batch_size), "max_batch_size": self.batch_size}

    def share_model_across_processes(self) -> bool:
        """One model for all processes of a worker: a chip has one owner."""
        return True

    def get_metrics_namespace(self) -> str:
        """The name of Beam's counters."""
        return "BeamML_jaxpool"
