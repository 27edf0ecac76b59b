"""From the patches of a vision tower to the vectors that stand among those of a text's tokens."""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from jaxpool.nn import layers
from jaxpool.nn.arch import Arch, Merger
from jaxpool.nn.segments import take


class Seen(NamedTuple):
    """What a text gets of its pictures.

    vectors: in place of the embeddings of image tokens, `[B, S, D]`; deep: what is added to these
    tokens after the first layers, one after another, `[J, B, S, D]`; marks: the learned vectors
    that have a place among the others, `[M, D]`.
    """

    vectors: jax.Array
    deep: jax.Array | None = None
    marks: jax.Array | None = None

    def in_rows(self, count: int) -> "Seen":
        """The same for `count` rows, over which there may have been several each."""
        deep = self.deep
        if deep is not None:
            deep = deep.reshape(len(deep), count, -1, deep.shape[-1])
        return Seen(self.vectors.reshape(count, -1, self.vectors.shape[-1]), deep, self.marks)


def see(params: dict, hidden: jax.Array, states: jax.Array | None, tower: Arch) -> Seen:
    """Merge the hidden states `[B, P, D]` of a tower, and `states [J, B, P, D]` of some layers."""
    facts = tower.merger
    assert facts is not None
    vectors = merge(params["merger"], hidden, facts, tower, facts.norm)
    marks = _marks(params["merger"], facts) if facts.marks else None
    if states is None:
        return Seen(vectors, marks=marks)
    deep = [
        merge(jax.tree.map(lambda leaf: leaf[i], params["deep"]), state, facts, tower, "joined")  # noqa: B023
        for i, state in enumerate(states)
    ]
    return Seen(vectors, jnp.stack(deep), marks)


def merge(params: dict, x: jax.Array, facts: Merger, tower: Arch, place: str) -> jax.Array:
    """`[B, P, D] -> [B, P / side side, W]`; patches that become one vector follow one another."""
    arch = tower.replace(norm_eps=facts.norm_eps or tower.norm_eps)
    if place == "patch":
        x = layers.arch_norm(params["norm"], x, arch)
    x = x.reshape(x.shape[0], -1, facts.patches, x.shape[-1])
    if facts.averaged:
        mean = jnp.mean(x.astype(jnp.float32), axis=2) * x.shape[-1] ** 0.5
        x = mean.astype(x.dtype)
    else:
        x = x.reshape(*x.shape[:2], -1)
    if place == "joined":
        x = layers.arch_norm(params["norm"], x, arch)
    if place == "plain":
        x = layers.arch_norm({}, x, arch)
    return _project(params, x, facts)


def _marks(params: dict, facts: Merger) -> jax.Array:
    """The learned vectors `[M, W]` as a text gets them."""
    marks = jnp.stack([params["marks"][name]["embedding"] for name in facts.marks])
    return _project(params, marks[None], facts)[0] if facts.merged_marks else marks


def _project(params: dict, x: jax.Array, facts: Merger) -> jax.Array:
    """`[B, S, m] -> [B, S, W]`: one linear layer, or two."""
    if not facts.hidden:
        return layers.dense(params["out"], x, "bsm,mt->bst")
    act = layers.ACTIVATIONS[facts.activation]
    hidden = act(layers.dense(params["up"], x, "bsm,mu->bsu"))
    return layers.dense(params["down"], hidden, "bsu,ut->bst")


def slots(arch: Arch, deep: jax.Array | None) -> jax.Array | None:
    """For each layer, which of the states that join text and tower it gives or takes; else -1."""
    if arch.merger:
        order = {layer: slot for slot, layer in enumerate(arch.merger.deep)}
        found = [order.get(layer, -1) for layer in range(arch.layers)]
        return jnp.asarray(found, jnp.int32) if order else None
    if deep is None:
        return None
    numbers = jnp.arange(arch.layers, dtype=jnp.int32)
    return jnp.where(numbers < len(deep), numbers, -1)


def between(x, states, seen: Seen | None, soft, slot) -> tuple:
    """What a layer passes on: with its output kept for the text, or with the tower's added."""
    if states is not None:
        states = keep(states, x, slot)
    if seen is not None and seen.deep is not None:
        x = add(x, seen.deep, soft, slot)
    return x, states


def keep(states: jax.Array, x: jax.Array, slot: jax.Array) -> jax.Array:
    """The states `[J, B, P, D]` of a tower with `x` at a slot."""
    here = jnp.arange(len(states), dtype=jnp.int32) == slot
    return jnp.where(here[:, None, None, None], x, states)


def add(x: jax.Array, deep: jax.Array, soft: jax.Array, slot: jax.Array) -> jax.Array:
    """Tokens `[B, T, D]` with what a slot of `deep` has for those of images (`soft`)."""

    def more(x):
        mine = jax.lax.dynamic_index_in_dim(deep, slot, keepdims=False)
        return x + jnp.where(soft[..., None] < 0, 0.0, take(mine, soft)).astype(x.dtype)

    return jax.lax.cond(slot < 0, lambda x: x, more, x)
