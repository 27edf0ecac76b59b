"""The trainer: a loop made of parts that stand alone (`data`, `feed`, `step`, `checkpoints`)."""

import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import closing
from dataclasses import asdict, replace
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from tqdm import tqdm

from jaxpool.loading import load
from jaxpool.model import Model
from jaxpool.nn.arch import Arch
from jaxpool.nn.dropout import Dropout
from jaxpool.nn.params import flatten
from jaxpool.train.adapters import TRAINED, add_adapters
from jaxpool.train.checkpoints import Checkpoints
from jaxpool.train.data import Batches, Examples, examples
from jaxpool.train.export import save_model
from jaxpool.train.feed import Feed
from jaxpool.train.losses import matryoshka
from jaxpool.train.objectives import objective
from jaxpool.train.optimizers import accumulated, adamw, divided, joined
from jaxpool.train.options import TrainingOptions
from jaxpool.train.packing import TrainingBatch
from jaxpool.train.reports import Reports, past
from jaxpool.train.sharding import check_mesh, fsdp_shardings, on_host
from jaxpool.train.step import Metrics, State, embed_rows, make_step


class Trainer:
    """Fine-tune a model on examples.

    model: what `jaxpool.load` takes; data: one source of `examples`, or several; evaluate: called
    with the whole parameter tree every `eval_steps`, a number or a mapping of them to log; or data
    in `evaluation`, whose mean loss is computed; optimizer: any of optax, in place of AdamW as the
    options describe it. Raises ValueError where data do not fit the loss, or the model the mesh.

    model: what was loaded, without its parameters, which are trained in their place (`params`).
    """

    def __init__(
        self,
        model: str,
        data: Iterable | list[Iterable],
        options: TrainingOptions,
        evaluation: Iterable | None = None,
        evaluate: Callable[[dict], Any] | None = None,
        optimizer: optax.GradientTransformation | None = None,
    ):
        self.options, self.objective = options, objective(options.loss)
        sources = data if isinstance(data, list) and _several(data) else [data]
        self.data = [self._checked(examples(source)) for source in sources]
        self.evaluation = None if evaluation is None else self._checked(examples(evaluation))
        self.evaluate = evaluate
        loaded = self._loaded(model)
        self.model = replace(loaded, params={})
        self.feed = Feed(self.model, self.objective, options)
        self.history: list[dict[str, float]] = []
        distinct = self.objective.distinct and options.no_duplicates
        texts = [each.texts for each in self.data] if distinct else None
        counts = [len(each.texts) for each in self.data]
        self.batches = Batches(counts, options.batch_size, options.seed, options.mix, texts)
        updates = options.epochs * self.batches.per_epoch / options.gradient_accumulation_steps
        self.steps = options.max_steps or math.ceil(updates)
        self.optimizer = self._optimizer(optimizer)
        params, self.arch, patterns = self._adapted(loaded.params)
        trained, self.frozen = divided(params, patterns)
        with jax.set_mesh(self.model.mesh):
            self.state = jax.jit(self._start, donate_argnums=0)(trained)

    def _loaded(self, model: str) -> Model:
        options = self.options
        loaded = load(
            model,
            dtype="float32",
            max_model_len=options.max_length,
            data_parallel_size=options.data,
            tensor_parallel_size=options.model,
            distributed=options.distributed,
        )
        check_mesh(loaded.checkpoint.leaves, loaded.mesh, options.fsdp)
        return loaded

    def _optimizer(self, given) -> optax.GradientTransformation:
        """The optimizer that is given, or that the options ask for."""
        options = self.options
        chosen = given or adamw(
            options.learning_rate,
            self.steps,
            warmup=options.warmup_ratio,
            weight_decay=options.weight_decay,
            clip=options.max_grad_norm,
            layer_decay=options.layer_decay,
        )
        return accumulated(chosen, options.gradient_accumulation_steps)

    def _adapted(self, params: dict) -> tuple[dict, Arch, tuple[str, ...]]:
        """The parameters and the arch that are trained, with adapters where these are asked for."""
        options, model = self.options, self.model
        arch = model.arch.replace(dtype=_activations(options.compute))
        if options.fsdp:
            params = jax.device_put(params, fsdp_shardings(model.checkpoint.leaves, model.mesh))
        if not options.lora_rank:
            return params, arch, options.train
        from converters.lora_save import kernels_named

        key, size = jax.random.key(options.seed), (options.lora_rank, options.lora_alpha)
        targets = kernels_named(model.checkpoint, options.lora_targets)
        with jax.set_mesh(model.mesh):
            params, arch = add_adapters(params, arch, targets, *size, key)
        return params, arch, TRAINED

    def _start(self, trained: dict) -> State:
        return State(trained, self.optimizer.init(trained), jnp.int32(0))

    def _checked(self, found: Examples) -> Examples:
        self.objective.check(self.options.loss, found.columns, found.labels)
        return found

    @property
    def params(self) -> dict:
        """The parameters as they are now, trained or not."""
        return joined(self.state.params, self.frozen)

    @cached_property
    def rates(self) -> Dropout:
        """The rates of dropout: given, or those of config.json."""
        config = self.model.checkpoint.config
        if self.options.dropout is not None:
            return Dropout(*self.options.dropout)
        hidden = getattr(config, "hidden_dropout_prob", 0.0)
        return Dropout(hidden, getattr(config, "attention_probs_dropout_prob", 0.0))

    @cached_property
    def _embed(self) -> Callable:
        return partial(
            embed_rows,
            arch=self.arch,
            steps=self.feed.inputs.steps,
            compute=self.options.compute,
            remat=self.options.remat,
        )

    @cached_property
    def _loss(self) -> Callable:
        call = partial(self.objective.call, **self.options.loss_options)
        dims = self.options.matryoshka_dims
        return matryoshka(call, dims) if dims else call

    @cached_property
    def _step(self) -> Callable:
        step = make_step(
            partial(self._embed, dropout=self.rates),
            self._loss,
            self.optimizer,
            chunk=self.options.chunk,
            dropout=self.rates != Dropout(),
            seed=self.options.seed,
        )
        return jax.jit(step, donate_argnums=0)

    def train(self, resume: bool = True) -> State:
        """Run to the end, from the last checkpoint in `output` if there is one and `resume`."""
        options, folder = self.options, Path(self.options.output)
        checkpoints = Checkpoints(folder / "checkpoints", options.keep, self._facts())
        if resume:
            self.state = checkpoints.restore(self.state)
        else:
            checkpoints.remove()
        done, first = int(self.state.step), jax.process_index() == 0
        self.history = past(folder, done) if first else []
        self.reports = Reports(options.report_to if first else None, folder, asdict(options))
        total = self.steps * options.gradient_accumulation_steps
        with (
            closing(checkpoints),
            closing(self.reports),
            jax.set_mesh(self.model.mesh),
            tqdm(total=total, initial=done, desc="train") as bar,
        ):
            self._run(done, total, checkpoints, bar)
        return self.state

    def _run(self, done: int, total: int, checkpoints: Checkpoints, bar: tqdm) -> None:
        """The steps after `done`."""
        options = self.options
        look = partial(self._look, bar, checkpoints)
        waiting: tuple | None = None
        for step, (which, indices) in zip(
            range(done + 1, total + 1), self.batches.from_step(done), strict=False
        ):
            batch = self.feed.batch(self.data[which], indices)  # while the device is at work
            if waiting:
                look(*waiting)
            self.state, metrics = self._step(self.state, self.frozen, batch)
            waiting = (step, which, indices, metrics)
            saved, evaluated = _due(step, options.save_steps), _due(step, options.eval_steps)
            if saved or evaluated or step == total:
                look(*waiting)
                waiting = None
            if saved:
                checkpoints.save(step, self.state)
            if evaluated:
                self._record(step, self.evaluated())
            bar.update()

    def _record(self, step: int, numbers: dict[str, float]) -> None:
        self.history.append({"step": step} | numbers)
        self.reports.write(step, numbers)

    def _look(self, bar, checkpoints, step: int, which: int, indices, metrics: Metrics) -> None:
        """Log a step; save and stop at one that is not finite, which has changed nothing."""
        loss = float(metrics.loss)
        if not metrics.finite:
            checkpoints.save(step - 1, self.state)
            raise ArithmeticError(
                f"step {step}: the loss is {loss}, the gradient's length {metrics.gradient:.3g}, "
                f"in the batch of examples {indices.tolist()} of dataset {which}; the state before "
                f"it is saved in {self.options.output}"
            )
        self._record(step, {"loss": loss, "gradient": float(metrics.gradient)})
        if step % self.options.logging_steps == 0:
            bar.set_postfix(loss=f"{loss:.4f}")

    def evaluated(self) -> dict[str, float]:
        """What the evaluator says, and the mean loss of the evaluation data."""
        found: dict[str, float] = {}
        if self.evaluation is not None:
            found["eval_loss"] = float(np.mean([*self._losses(self.evaluation)]))
        if self.evaluate:
            said = self.evaluate(self.params)
            said = said if isinstance(said, dict) else {"metric": said}
            found |= {name: float(number) for name, number in said.items()}
        return found

    def _losses(self, dataset: Examples) -> Iterator[float]:
        size = self.options.batch_size
        for start in range(0, len(dataset.texts), size):
            indices = np.arange(start, min(start + size, len(dataset.texts)))
            yield float(self._evaluation(self.params, self.feed.batch(dataset, indices)))

    @cached_property
    def _evaluation(self) -> Callable:
        def loss(params, batch: TrainingBatch):
            vectors = self._embed(params, (batch.batch, batch.controls))
            flat = vectors.reshape(-1, vectors.shape[-1])
            return self._loss(flat[batch.where], batch.labels, batch.mask)

        return jax.jit(loss)

    def _facts(self) -> dict[str, Any]:
        """What a checkpoint must agree on to be gone on from."""
        shapes = {name: list(leaf.shape) for name, leaf in flatten(self.state.params).items()}
        data = [len(each.texts) for each in self.data]
        options = self.options
        return {"model": self.model.name, "shapes": shapes, "data": data} | {
            name: getattr(options, name)
            for name in ("loss", "batch_size", "seed", "learning_rate", "mix")
        }

    def save(self, folder: str | Path) -> None:
        """Write the model as a folder that sentence-transformers, vLLM and jaxpool load.

        Of a run with adapters: the adapter alone, as PEFT's files.
        """
        params = on_host(self.params)
        if jax.process_index():
            return  # the first process writes
        if self.options.lora_rank:
            from converters.lora_save import save_adapter

            model, alpha = self.model, self.options.lora_alpha
            return save_adapter(model.checkpoint, params, Path(folder), model.name, alpha)
        whole = replace(self.model, params=params)
        count = sum(len(each.texts) for each in self.data)
        save_model(whole, Path(folder), self.options, self.history, count)


def _several(data: list) -> bool:
    """Whether a list holds sources of examples, rather than examples."""
    return bool(data) and not isinstance(data[0], Mapping | tuple)


def _due(step: int, every: int) -> bool:
    return every > 0 and step % every == 0


def _activations(compute: str) -> str:
    return "float32" if jax.default_backend() == "cpu" else compute
