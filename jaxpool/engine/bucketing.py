"""What suits a platform: tokens of a batch, bucket lengths, and what a call costs by itself."""

from typing import NamedTuple

import jax

from jaxpool.nn.arch import Arch


class Bucketing(NamedTuple):
    """A platform's batches: their tokens, and how many bucket lengths lie in each doubling."""

    tokens: int
    steps: int


FINE = 2  # bucket lengths in each doubling: 16, 24, 32, 48, ...
# Accelerators compile slowly and are idle in small batches: fewer buckets mean fewer executables,
# and more rows of one length for each batch. CPUs gain more from the padding that finer ones avoid.
BUCKETING = {"cpu": Bucketing(1024, FINE), "gpu": Bucketing(32768, 1), "tpu": Bucketing(16384, 1)}
# Operations a device could do while a program is started, fetched and awaited: 0.2 ms, whatever the
# size of the program, at a third of a chip's peak; on CPU at what small products reach.
CALL = {"cpu": 1e7, "gpu": 5e10, "tpu": 2e10}


def bucketing() -> Bucketing:
    """The bucketing of the platform in use."""
    return BUCKETING.get(jax.default_backend(), BUCKETING["cpu"])


def budget(asked: int | None, max_length: int, tower: bool) -> int:
    """Tokens of a batch: those that are asked for, or the platform's."""
    if tower:
        return max(asked or bucketing().tokens, max_length)
    if asked is None:
        return bucketing().tokens
    if asked < max_length:
        raise ValueError(
            f"max_num_batched_tokens ({asked}) is smaller than max_model_len ({max_length})"
        )
    return asked


def call_tokens(params: dict, arch: Arch) -> int:
    """How many tokens of padding cost no more than one call of the device."""
    weights = sum(leaf.size for leaf in jax.tree.leaves(params.get("layers", {})))
    weights *= arch.layers if arch.shared_layers else 1
    return int(CALL.get(jax.default_backend(), CALL["cpu"]) / (2 * max(weights, 1)))
