"""What the steps of a head know of the texts whose vectors they compute with."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxpool.nn.segments import members


class Context(NamedTuple):
    """What a step may look at beside its input."""

    batch: Any
    controls: Any
    segments: jax.Array | None  # of each input vector; None where vectors are those of segments

    def of(self, control: jax.Array) -> jax.Array:
        """A control for each vector of the input, with a trailing axis of one."""
        if self.segments is None:
            return control[..., None]
        index = jnp.maximum(self.segments - 1, 0)
        return jnp.take_along_axis(control, index, axis=1)[..., None]

    def members(self, count: int) -> jax.Array:
        """Which tokens belong to each of `count` segments: bool `[B, R, T]`."""
        return members(self.batch.segments, count)

    def adapters(self, count: int) -> jax.Array:
        """The adapter of each vector of the input, one of `count` or none: float32 `[B, T, q]`."""
        mine = self.members(self.controls.skip.shape[1])
        numbers = jnp.where(mine, self.batch.adapters[:, None], 0).max(axis=-1)
        return jax.nn.one_hot(self.of(numbers)[..., 0] - 1, count)

    def in_slots(self) -> "Context":
        """What the texts in the slots of a batch ask, where there is a vector of each of them."""
        slots, controls = self.controls.slots, self.controls
        asked = {n: getattr(controls, n).reshape(-1)[slots] for n in ("dimensions", "activate")}
        return self._replace(segments=None, controls=controls._replace(**asked))
