"""One case through a reference and through jaxpool: numbers or a refusal, and if they agree."""

import logging
import warnings
from collections.abc import Callable
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxpool.engine import batch as batching
from jaxpool.engine.batch import Request
from jaxpool.heads.steps import Chains
from jaxpool.heads.steps import run as run_steps
from jaxpool.model import Model
from jaxpool.nn.transformer import forward

LENGTHS = (24, 48)  # of batches: what is not compiled as a whole is compiled for each shape
RELATIVE = 2e-5


class Refusal(NamedTuple):
    """Why there are no numbers."""

    error: Exception

    def __str__(self):
        return f"{type(self.error).__name__}: {' '.join(str(self.error).split())[:300]}"


def attempt(function: Callable, *args):
    """What a function returns, or its refusal."""
    with quiet():
        try:
            return function(*args)
        except Exception as error:  # of many kinds, by what is wrong in the files
            return Refusal(error)


@contextmanager
def quiet():
    """Neither warnings nor log lines: generated folders are odd on purpose."""
    before = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)


def difference(theirs, ours) -> str | None:
    """How two results differ; None where they agree, or where both refuse."""
    refused = [isinstance(one, Refusal) for one in (theirs, ours)]
    if all(refused):
        return None
    if any(refused):
        return f"theirs refuses: {theirs}" if refused[0] else f"ours refuses: {ours}"
    for number, (wanted, found) in enumerate(zip(theirs, ours, strict=True)):
        wanted, found = np.asarray(wanted, np.float32), np.asarray(found, np.float32)
        if wanted.shape != found.shape:
            return f"text {number}: shapes {wanted.shape} and {found.shape}"
        if not np.isfinite(wanted).all():
            return f"text {number}: theirs is not finite"
        off = float(np.abs(wanted - found).max(initial=0))
        if off > RELATIVE * max(1.0, float(np.abs(wanted).max(initial=0))):
            return f"text {number}: differs by {off:.2g}"
    return None


def computed(params: dict, arch, requests: list[Request], chains: Chains, context: bool = False):
    """The outputs of chains of steps for requests, a row each, operation by operation."""
    sizes = [len(request.ids) for request in requests]
    length = next(length for length in LENGTHS if length >= max(sizes))
    plan = batching.place([[i] for i in range(len(requests))], len(requests), length, sizes)
    reads = batching.TEXT._replace(
        types=(arch.token_types > 0) or None,
        adapters=(arch.adapters > 0) or None,
        context=context or None,
    )
    batch, controls = batching.fill(plan, requests, reads)
    with jax.disable_jit():
        hidden, heads = forward(params, batch, arch), params.get("heads", {})
        outputs = [run_steps(steps, heads, hidden, batch, controls) for steps in chains]
    return plan, [np.asarray(output) for output in outputs]


def run(model: Model, task, requests):
    """`Model.run` without executables: a tiny model of a new architecture takes 50 ms, not 2 s."""
    rows = 4
    for start in range(0, len(requests), rows):
        some = list(requests[start : start + rows])
        plan, (output,) = computed(model.params, model.arch, some, (task.program,))
        for i, result in batching.unpack(plan, output, some, task.pooled):
            yield start + i, result


def hidden_states(checkpoint, texts: list[np.ndarray]) -> list[np.ndarray]:
    """The hidden states of token ids by a checkpoint's files."""
    params = checkpoint.read(np.float32, lambda path, array: jnp.asarray(array))
    requests = [Request(ids) for ids in texts]
    _, (hidden,) = computed(params, checkpoint.arch, requests, ((),))
    return [row[: len(ids)] for row, ids in zip(hidden, texts, strict=True)]


def link(source: Path, target: Path) -> None:
    """A folder whose files are those of another, each free to be replaced."""
    target.mkdir()
    for file in source.rglob("*"):
        place = target / file.relative_to(source)
        if file.is_dir():
            place.mkdir()
        else:
            place.hardlink_to(file)
