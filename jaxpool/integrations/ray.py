"""Ray Data: `embed(dataset, "a/model")`, an actor for each chip or share of the cores."""

import os
from typing import Any

from jaxpool.jobs.embedder import Embedder

ACCELERATORS = ("cpu", "gpu", "tpu")


def actor_options(accelerator: str, each: int, cores: int) -> dict[str, Any]:
    """What Ray is told of an actor that has `each` chips, or as many cores.

    On CPU its threads are held to its cores: actors that each took all of them would be in each
    other's way.
    """
    if accelerator not in ACCELERATORS:
        raise ValueError(f"accelerator must be one of {ACCELERATORS}, got {accelerator!r}")
    if accelerator == "gpu":
        return {"num_gpus": each}
    if accelerator == "tpu":
        return {"num_cpus": 1, "resources": {"TPU": each}}
    # NPROC is the count that XLA reads; RAYON's threads tokenize.
    own = {"NPROC": str(cores), "RAYON_NUM_THREADS": str(cores), "JAX_PLATFORMS": "cpu"}
    # Less than it uses: actors stay for good, and what reads and writes needs a core of Ray's too.
    asked = cores - 1 if cores > 1 else 0.5
    return {"num_cpus": asked, "runtime_env": {"env_vars": own}}


def embed(
    dataset: Any,
    model: str,
    task: str = "embed",
    *,
    actors: int = 1,
    accelerator: str = "cpu",
    each: int = 1,
    batch_size: int = 8192,
    **options: Any,
) -> Any:
    """A Ray Dataset with the results of a task added (see `jaxpool.Embedder` for options).

    actors: how many; accelerator: cpu, gpu or tpu; each: chips an actor holds.
    """
    cores = max(1, (os.cpu_count() or 1) // actors)
    return dataset.map_batches(
        Embedder,
        fn_constructor_args=(model, task),
        fn_constructor_kwargs=options,
        concurrency=actors,
        batch_size=batch_size,
        batch_format="pyarrow",
        **actor_options(accelerator, each, cores),
    )
