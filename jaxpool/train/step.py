"""One training step as a pure function: vectors of packed rows, their loss, the update."""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from jaxpool.heads.steps import run as run_steps
from jaxpool.nn.arch import Arch
from jaxpool.nn.dropout import OFF, Dropout
from jaxpool.nn.transformer import forward
from jaxpool.train.gradcache import grad_cache
from jaxpool.train.optimizers import joined
from jaxpool.train.packing import TrainingBatch


class State(NamedTuple):
    """What a run changes: trained parameters, the optimizer's state, and the steps done."""

    params: dict
    optimizer: Any
    step: jax.Array


class Metrics(NamedTuple):
    """What a step tells: its loss, the gradient's length, and whether both were finite."""

    loss: jax.Array
    gradient: jax.Array
    finite: jax.Array


def embed_rows(
    params: dict,
    rows: tuple,
    key: jax.Array | None = None,
    *,
    arch: Arch,
    steps: tuple,
    dropout: Dropout = OFF,
    remat: str = "none",
    compute: str = "float32",
) -> jax.Array:
    """The vectors of every place of packed rows, float32 `[B, R, F]`.

    rows: a `Batch` and its `Controls`; compute: the dtype of products ("bfloat16" keeps the
    parameters and the heads in float32).
    """
    batch, controls = rows
    cast = jax.tree.map(lambda leaf: leaf.astype(compute), params | {"heads": {}})
    hidden = forward(cast, batch, arch, dropout=dropout, key=key, remat=remat)
    return run_steps(steps, params.get("heads", {}), hidden, batch, controls)


def make_step(
    embed: Callable,
    loss: Callable[..., jax.Array],
    optimizer: optax.GradientTransformation,
    *,
    chunk: int | None = None,
    dropout: bool = False,
    seed: int = 0,
) -> Callable[[State, dict, TrainingBatch], tuple[State, Metrics]]:
    """`step(state, frozen, batch) -> (state, metrics)`, to be jitted.

    frozen: the parameters that are not trained, of which no gradient is computed.

    embed: `(params, rows, key)` to vectors `[B, R, F]`; loss: `(columns [C, B, F], labels, mask)`
    to a scalar; chunk: rows at a time by GradCache, all at once if None. A step whose loss or
    gradient is not finite changes nothing. Keys come of the seed and the step's number.
    """

    def loss_of(vectors, where, labels, mask):
        return loss(vectors.reshape(-1, vectors.shape[-1])[where], labels, mask)

    def step(state: State, frozen: dict, batch: TrainingBatch) -> tuple[State, Metrics]:
        def whole(trained, *inputs):
            return embed(joined(trained, frozen), *inputs)

        key = jax.random.fold_in(jax.random.key(seed), state.step) if dropout else None
        rows, rest = (batch.batch, batch.controls), (batch.where, batch.labels, batch.mask)
        if chunk:
            cached = grad_cache(loss_of, whole, chunk=chunk)
            value, gradient = cached(state.params, rows, *rest, key=key)
        else:
            make = lambda params: loss_of(whole(params, rows, key), *rest)  # noqa: E731
            value, gradient = jax.value_and_grad(make)(state.params)
        length = optax.tree.norm(gradient)
        finite = jnp.isfinite(value) & jnp.isfinite(length)
        new = _updated(optimizer, state, gradient)
        kept = jax.tree.map(partial(jnp.where, finite), new, state)
        return kept, Metrics(value, length, finite)

    return step


def _updated(optimizer: optax.GradientTransformation, state: State, gradient: dict) -> State:
    # optax mixes integers and floats.
    with jax.numpy_dtype_promotion("standard"):
        updates, after = optimizer.update(gradient, state.optimizer, state.params)
        return State(optax.apply_updates(state.params, updates), after, state.step + 1)
