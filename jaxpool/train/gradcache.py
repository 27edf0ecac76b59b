"""GradCache: the gradient of a loss over a batch far larger than memory (arXiv 2101.06983).

Vectors are made chunk by chunk and kept; the loss gives the gradient of each of them; then every
chunk is computed again, and that gradient goes back through it. Memory is that of one chunk, and of
all the vectors.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp


def grad_cache(
    loss: Callable[..., jax.Array], embed: Callable[..., Any], *, chunk: int
) -> Callable[..., tuple[jax.Array, Any]]:
    """`value_and_grad(params, inputs, *arguments, key=None)` of `loss(embed(params, inputs), ...)`.

    embed: `(params, inputs)`, or `(params, inputs, key)` where a key is given (dropout), to a tree
    of vectors; it treats rows alone. inputs: a tree of arrays, rows first; chunk: rows of the first
    array at a time, which must divide it; arrays of other lengths are cut into as many parts.
    loss: `(vectors, *arguments)` to a scalar. Each chunk has a key of its own, the same both times.
    Rows are dealt out to chunks like cards: over a mesh, each device has its part of every chunk.
    """

    def value_and_grad(params, inputs, *arguments, key: jax.Array | None = None):
        rows = len(jax.tree.leaves(inputs)[0])
        if chunk < 1 or rows % chunk:
            raise ValueError(f"grad_cache: chunk={chunk} does not divide the {rows} rows")
        count = rows // chunk
        parts = jax.tree.map(partial(_deal, count=count), inputs)
        keys = () if key is None else (jax.random.split(key, count),)
        vectors = jax.lax.map(lambda part: embed(params, *part), (parts, *keys))
        whole = jax.tree.map(_collect, vectors)
        value, wanted = jax.value_and_grad(loss)(whole, *arguments)
        wanted = jax.tree.map(partial(_deal, count=count), wanted)

        def add(total, item):
            part, cotangents = item
            _, back = jax.vjp(lambda p: embed(p, *part), params)
            return jax.tree.map(jnp.add, total, *back(cotangents)), None

        zeros = jax.tree.map(jnp.zeros_like, params)
        return value, jax.lax.scan(add, zeros, ((parts, *keys), wanted))[0]

    return value_and_grad


def _deal(x: jax.Array, count: int) -> jax.Array:
    """`[rows, ...] -> [count, rows / count, ...]`: chunk i has the rows i, count + i, ..."""
    if len(x) % count:
        raise ValueError(f"grad_cache: {count} chunks do not divide an array of {len(x)} rows")
    return x.reshape(-1, count, *x.shape[1:]).swapaxes(0, 1)


def _collect(x: jax.Array) -> jax.Array:
    """The inverse of `_deal`."""
    return x.swapaxes(0, 1).reshape(-1, *x.shape[2:])
