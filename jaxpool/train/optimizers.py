"""What is trained, and how fast: parameters by pattern, schedules, rates that fall with depth."""

import re
from collections.abc import Iterable
from typing import Any

import jax
import jax.numpy as jnp
import optax

from jaxpool.nn.params import flatten, unflatten


def divided(params: dict, patterns: Iterable[str] = (".*",)) -> tuple[dict, dict]:
    """The parameters whose dotted names match a pattern from the start, and the others.

    `["heads\\."]` trains heads alone, `[".*lora_"]` adapters. ValueError where nothing matches.
    """
    patterns, flat = tuple(patterns), flatten(params)
    chosen = {name for name in flat if any(re.match(pattern, name) for pattern in patterns)}
    if not chosen:
        raise ValueError(f"nothing to train: no parameter matches {patterns}; there are {[*flat]}")
    trained = {name: leaf for name, leaf in flat.items() if name in chosen}
    frozen = {name: leaf for name, leaf in flat.items() if name not in chosen}
    return unflatten(trained), unflatten(frozen)


def joined(trained: dict, frozen: dict) -> dict:
    """The whole tree: the inverse of `divided`."""
    return unflatten(flatten(trained) | flatten(frozen))


def adamw(
    learning_rate: float,
    steps: int,
    *,
    warmup: float = 0.1,
    weight_decay: float = 0.0,
    clip: float = 1.0,
    layer_decay: float = 1.0,
) -> optax.GradientTransformation:
    """AdamW with a linear warm-up and decay, as transformers' trainers have it by default.

    steps: updates in all; warmup: share of them; clip: the greatest global norm of a gradient;
    layer_decay: the factor on the rate from each layer to the one below.
    """
    begin = int(-(-steps * warmup // 1))
    rate = optax.join_schedules(
        [
            optax.linear_schedule(0.0, learning_rate, begin),
            optax.linear_schedule(learning_rate, 0.0, max(steps - begin, 1)),
        ],
        [begin],
    )
    parts = [
        optax.clip_by_global_norm(clip),
        optax.scale_by_adam(b1=0.9, b2=0.999, eps=1e-8),
        optax.add_decayed_weights(weight_decay, mask=decayed),
        optax.scale_by_learning_rate(rate),
    ]
    if layer_decay != 1.0:
        parts.append(by_depth(layer_decay))
    return optax.chain(*parts)


def accumulated(
    optimizer: optax.GradientTransformation, count: int
) -> optax.GradientTransformation:
    """An optimizer that makes one update of the mean of `count` gradients."""
    if count == 1:
        return optimizer
    return optax.MultiSteps(optimizer, count).gradient_transformation()


def decayed(params: dict) -> dict:
    """Which parameters weight decay draws to zero: kernels and tables, no biases and no norms."""
    flat = {name: not name.endswith((".bias", ".scale")) for name in flatten(params)}
    return unflatten(flat)


def by_depth(decay: float) -> optax.GradientTransformation:
    """Updates of layer l of L times `decay ** (L - 1 - l)`, of embeddings `decay ** L`."""

    def update(updates: dict, state: Any, params: Any = None):
        flat = flatten(updates)
        depth = max([len(x) for name, x in flat.items() if name.startswith("layers.")], default=0)

        def scaled(name: str, x: jax.Array) -> jax.Array:
            if name.startswith("embed."):
                return x * decay**depth
            if not name.startswith("layers."):
                return x
            factors = jnp.power(decay, jnp.arange(depth - 1, -1, -1, dtype=x.dtype))
            return x * factors.reshape(-1, *(1,) * (x.ndim - 1))

        return unflatten({name: scaled(name, x) for name, x in flat.items()}), state

    return optax.GradientTransformation(lambda params: optax.EmptyState(), update)
