"""`Model`: arch + params + tasks + tokenizer, what `load` returns."""

from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxpool import batch as batching
from jaxpool.arch import Arch
from jaxpool.batch import Request
from jaxpool.compile import Executor, enable_cache
from jaxpool.requests import PoolerConfig, as_pooler_config
from jaxpool.sharding import make_mesh, tree_shardings
from jaxpool.task import Task, classification_task, embedding_tasks
from jaxpool.tokenize import NO_LIMIT, Tokenizer

DTYPES = {
    "float32": jnp.float32,
    "float": jnp.float32,
    "bfloat16": jnp.bfloat16,
    "float16": jnp.float16,
    "half": jnp.float16,
}
TOKEN_BUDGET = {"cpu": 1024, "gpu": 32768, "tpu": 16384}  # tokens a batch
IN_FLIGHT = 2  # batches dispatched ahead of the one being fetched


@dataclass(frozen=True)
class Model:
    """A loaded checkpoint. `arch` and `params` are all that `jaxpool.forward` needs."""

    name: str
    arch: Arch
    params: dict
    tasks: Mapping[str, Task]
    tokenizer: Tokenizer
    max_length: int
    mesh: jax.sharding.Mesh
    checkpoint: Any
    budget: int
    pooler_config: PoolerConfig = field(default_factory=PoolerConfig)

    @cached_property
    def executor(self) -> Executor:
        """The compiled programs of this model."""
        return Executor(self.params, self.arch, self.mesh)

    @cached_property
    def rungs(self) -> tuple[int, ...]:
        """The row lengths this model is compiled for."""
        return batching.ladder(self.max_length)

    def run(self, task: Task, requests: Sequence[Request]) -> Iterator[tuple[int, np.ndarray]]:
        """Compute a task; yields `(index of the request, result)` as batches finish.

        Requests share rows and batches as it suits the device; their results do not depend on it.
        """
        lengths = [len(request.ids) for request in requests]
        multiple = self.mesh.shape["data"]
        flying: deque = deque()
        for plan in batching.plan(lengths, self.rungs, self.budget, multiple):
            arrays = batching.fill(plan, requests, types=self.arch.token_types > 0)
            flying.append((plan, self.executor(task.steps, *arrays)))
            if len(flying) > IN_FLIGHT:
                yield from self._fetch(*flying.popleft(), requests, task)
        while flying:
            yield from self._fetch(*flying.popleft(), requests, task)

    def _fetch(self, plan, output, requests, task):
        return batching.unpack(plan, np.asarray(output), requests, task.pooled)

    def export(self, folder: str | Path, params: dict | None = None) -> Path:
        """Write `params` (the model's own if not given) as a folder Hugging Face loads."""
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        self.checkpoint.write(self.params if params is None else params, folder)
        return folder


def load(
    model: str,
    *,
    dtype: str = "auto",
    revision: str | None = None,
    max_model_len: int | None = None,
    hf_overrides: Mapping | Callable | None = None,
    pooler_config: PoolerConfig | Mapping | None = None,
    tensor_parallel_size: int = 1,
    data_parallel_size: int | None = None,
) -> Model:
    """Load a checkpoint: a folder, a Hub id, or `pkg://package/path`.

    dtype "auto" is float32 on CPU and bfloat16 on TPU and GPU. Parameters go leaf by leaf onto
    the mesh of `data_parallel_size` x `tensor_parallel_size` devices.
    """
    from converters.checkpoint import open_checkpoint
    from converters.files import resolve

    enable_cache()
    folder = resolve(model, revision)
    checkpoint = open_checkpoint(folder, hf_overrides)
    data = 1 if data_parallel_size is None else data_parallel_size
    mesh = make_mesh(tensor_parallel_size, data)
    kind = _dtype(dtype)
    arch = checkpoint.arch.replace(dtype=_activations(kind))
    shardings = tree_shardings(checkpoint.leaves, mesh)
    config = as_pooler_config(pooler_config)
    pipeline = checkpoint.pipeline
    tokenizer = Tokenizer(
        folder / (pipeline.transformer if pipeline else ""), bool(pipeline and pipeline.lower_case)
    )
    return Model(
        name=model,
        arch=arch,
        params=_read(checkpoint, kind, shardings),
        tasks=_tasks(checkpoint, config),
        tokenizer=tokenizer,
        max_length=_max_length(checkpoint, tokenizer, max_model_len),
        mesh=mesh,
        checkpoint=checkpoint,
        budget=TOKEN_BUDGET.get(jax.default_backend(), TOKEN_BUDGET["cpu"]),
        pooler_config=config,
    )


def _dtype(name: str) -> jnp.dtype:
    if name == "auto":
        name = "float32" if jax.default_backend() == "cpu" else "bfloat16"
    if name not in DTYPES:
        raise ValueError(f"unknown dtype {name!r}; known: auto, {', '.join(DTYPES)}")
    return jnp.dtype(DTYPES[name])


def _activations(kind: jnp.dtype) -> str:
    # CPUs gain from bfloat16 operands alone: activations stay float32 between products.
    return "float32" if jax.default_backend() == "cpu" else kind.name


def _read(checkpoint, dtype, shardings) -> dict:
    from converters.orbax import is_orbax, restore
    from jaxpool.params import flatten

    if is_orbax(checkpoint.folder):
        return restore(checkpoint.folder, checkpoint.leaves, dtype, shardings)
    places = flatten(shardings)
    return checkpoint.read(dtype, lambda path, array: jax.device_put(array, places[path]))


def _max_length(checkpoint, tokenizer: Tokenizer, asked: int | None) -> int:
    pipeline = checkpoint.pipeline
    derived = min(checkpoint.arch.max_length, tokenizer.max_length)
    if pipeline and pipeline.max_length:
        derived = pipeline.max_length
    derived = 2048 if derived >= NO_LIMIT else derived
    if asked is not None and asked > derived:
        raise ValueError(
            f"User-specified max_model_len ({asked}) is greater than the derived max_model_len "
            f"({derived} by the checkpoint's files)"
        )
    return asked or derived


def _tasks(checkpoint, config: PoolerConfig) -> dict[str, Task]:
    from jaxpool.heads import Pool

    pipeline, head = checkpoint.pipeline, checkpoint.head
    if head and head.task.endswith("classify"):
        labels = checkpoint.config.num_labels
        activation = "sigmoid" if labels == 1 else "softmax"
        return classification_task(head.task, checkpoint.head_steps, activation, config)
    if pipeline:
        return embedding_tasks(pipeline.steps, pipeline.normalize, config)
    return embedding_tasks((Pool((checkpoint.family.pool,)),), True, config)
