"""What a step is fed: some of the examples, as packed arrays on the devices of the model."""

from functools import partial

import jax
import numpy as np

from jaxpool.engine.sharding import put, replicated, rows_sharding
from jaxpool.loading import load
from jaxpool.model import Model
from jaxpool.train.data import Examples
from jaxpool.train.inputs import Inputs, guide_vectors
from jaxpool.train.objectives import Objective
from jaxpool.train.options import TrainingOptions
from jaxpool.train.packing import TrainingBatch, training_batch


class Feed:
    """Makes batches of examples for a model and a loss, as the options ask.

    ValueError where the model has no such task, or the loss and the options do not fit.
    """

    def __init__(self, model: Model, objective: Objective, options: TrainingOptions):
        self.model, self.options = model, options
        adapted = options.lora_rank > 0
        self.inputs = Inputs(model, objective.task, options.prompts, adapted)
        if self.inputs.results == "slots" and options.chunk:
            raise ValueError(f"{options.loss}: chunk is for vectors that are made row by row")
        if objective.guide != (options.guide is not None):
            wanted = "a model as guide" if objective.guide else "no guide"
            raise ValueError(f"{options.loss}: wanted {wanted}, found {options.guide}")
        self.guide = None if options.guide is None else load(options.guide)

    def batch(self, examples: Examples, indices: np.ndarray) -> TrainingBatch:
        """The arrays of some examples, on their devices."""
        options, inputs = self.options, self.inputs
        rows = [examples.texts[i] for i in indices]
        labels = None if examples.labels is None else examples.labels[indices]
        if self.guide:
            labels = guide_vectors(self.guide, rows)
        made = training_batch(
            inputs.columns(examples.columns, rows),
            labels,
            options.batch_size,
            self.model.max_length,
            options.chunk or options.data,
            inputs.reads,
            inputs.results,
        )
        return self._placed(made)

    def _placed(self, made: TrainingBatch) -> TrainingBatch:
        """Rows over the data axis; what belongs to no row on every device."""
        split, rest = rows_sharding(self.model.mesh), replicated(self.model.mesh)
        by_row = {"batch"} if self.inputs.results == "slots" else {"batch", "controls"}
        return TrainingBatch(
            **{
                name: jax.tree.map(partial(put, sharding=split if name in by_row else rest), part)
                for name, part in made._asdict().items()
            }
        )
