"""Several processes that run one model together, each with devices of its own."""

from collections.abc import Mapping
from typing import Any

import jax

MANUAL = '{"coordinator_address": "10.0.0.1:1234", "num_processes": 2, "process_id": 0}'


def start(distributed: bool | Mapping[str, Any]) -> None:
    """Join the other processes through `jax.distributed`, unless that is done already.

    True finds them by itself on TPU pods, under Slurm, Open MPI and Kubernetes; elsewhere a
    mapping gives the arguments of `jax.distributed.initialize`. It comes before anything that
    uses a device. Every process then makes the same calls, and each gets all results.
    """
    if not distributed or jax.distributed.is_initialized():
        return
    try:
        jax.distributed.initialize(**({} if distributed is True else distributed))
    except ValueError as error:
        raise ValueError(
            f"distributed={distributed!r} does not say which processes there are ({error}); "
            f"outside a TPU pod, Slurm, Open MPI and Kubernetes pass distributed={MANUAL}"
        ) from error
