"""A recurrence over the words of each text in a row, in both directions (LSTM, as torch has it)."""

import jax
import jax.numpy as jnp

from jaxpool.nn import layers
from jaxpool.nn.params import Leaf

DIRECTIONS = ("forward", "backward")


def lstm_leaves(inputs: int, hidden: int) -> dict:
    """The parameters of both directions; gates are input, forget, cell and output."""
    bias = {"bias": Leaf("O", (4 * hidden,))}
    one = {
        "input": {"kernel": Leaf("I O", (inputs, 4 * hidden))} | bias,
        "hidden": {"kernel": Leaf("I O", (hidden, 4 * hidden))} | bias,
    }
    return dict.fromkeys(DIRECTIONS, one)


def bidirectional(params: dict, x: jax.Array, begins: jax.Array, segments: jax.Array) -> jax.Array:
    """`[B, T, D] -> [B, T, 2 H]`, at the tokens where words begin; others leave no trace.

    begins: bool `[B, T]`. The state is zero before the first word of each segment.
    """
    parts = [
        _lstm(params[name], x, begins, segments, reverse=name == "backward") for name in DIRECTIONS
    ]
    return jnp.concatenate(parts, axis=-1)


def _lstm(p: dict, x, begins, segments, reverse: bool) -> jax.Array:
    inputs = layers.dense(p["input"], x, "bti,io->bto")
    shift = -1 if reverse else 1
    fresh = jnp.roll(segments, shift, axis=1) != segments
    fresh = fresh.at[:, -1 if reverse else 0].set(True)

    def step(carry, at):
        given, word, first = at
        state = jax.tree.map(lambda s: jnp.where(first[:, None], 0.0, s), carry)
        h, c = state
        gates = given + layers.dense(p["hidden"], h, "bi,io->bo")
        i, f, g, o = jnp.split(gates, 4, axis=-1)
        c = jax.nn.sigmoid(f) * c + jax.nn.sigmoid(i) * jnp.tanh(g)
        h = jax.nn.sigmoid(o) * jnp.tanh(c)
        new = jax.tree.map(lambda a, b: jnp.where(word[:, None], a, b), (h, c), state)
        return new, new[0]

    size = p["hidden"]["kernel"].shape[0]
    zeros = jnp.zeros((x.shape[0], size), x.dtype)
    steps = jax.tree.map(lambda y: jnp.moveaxis(y, 1, 0), (inputs, begins, fresh))
    _, out = jax.lax.scan(step, (zeros, zeros), steps, reverse=reverse)
    return jnp.moveaxis(out, 0, 1)
