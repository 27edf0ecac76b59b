"""Scores of labels that stand before a text in one prompt (GLiClass, arXiv 2508.07662)."""

from dataclasses import dataclass
from typing import NamedTuple

import jax
import jax.numpy as jnp

from jaxpool.heads import pooling
from jaxpool.nn import layers
from jaxpool.nn.params import Leaf

POOLS = {"first": "cls", "last": "lasttoken", "avg": "mean", "max": "max", "sum": "sum"}
HIDDEN = 256  # features inside the scorer "mlp"; its configuration has a field that it never read
SCORERS = ("simple", "weighted-dot", "mlp")


class Projector(NamedTuple):
    """Two layers of a vector of `dim` features, with `hidden` between them."""

    dim: int
    hidden: int
    activation: str

    def leaves(self) -> dict:
        """Its parameters."""
        return {"up": _linear(self.dim, self.hidden), "down": _linear(self.hidden, self.dim)}

    def __call__(self, params: dict, x: jax.Array) -> jax.Array:
        """`[..., D] -> [..., D]`."""
        act = layers.ACTIVATIONS[self.activation]
        return _dense(params["down"], act(_dense(params["up"], x)))


def _linear(inputs: int, outputs: int) -> dict:
    return {"kernel": Leaf("I O", (inputs, outputs)), "bias": Leaf("O", (outputs,))}


def _dense(params: dict, x: jax.Array) -> jax.Array:
    return layers.dense(params, x, "bti,io->bto")


@dataclass(frozen=True)
class LabelLogits:
    """Each token's logit as a label of its text.

    projector: of the text's vector and of a label's; pooling: how tokens become the text's (a key
    of `POOLS`); scorer: one of `SCORERS`; start: the token that the text begins with, which "first"
    then takes, -1 for the first of all; after: a label's vector is that of the token after its
    marker.
    """

    name: str
    projector: Projector
    pooling: str = "first"
    scorer: str = "simple"
    start: int = -1
    after: bool = False

    def width(self, dim: int) -> int:
        """Features that come out."""
        return 1

    def leaves(self) -> dict:
        """The parameters of the step."""
        d, h, own = self.projector.dim, HIDDEN, self.projector.leaves()
        scorer = {
            "simple": {},
            "weighted-dot": {
                "text": _linear(d, 2 * d),
                "label": _linear(d, 2 * d),
                "up": _linear(3 * d, 4 * d),
                "down": _linear(4 * d, 1),
            },
            "mlp": {
                "first": _linear(2 * d, h),
                "second": _linear(h, h // 2),
                "third": _linear(h // 2, 1),
            },
        }[self.scorer]
        return {"text": own, "label": own} | ({"scorer": scorer} if scorer else {})

    def __call__(self, params, x, context):
        """`[B, T, D] -> [B, T, 1]`."""
        params = jax.tree.map(lambda leaf: leaf.astype(jnp.float32), params)
        text = self.projector(params["text"], self._texts(x, context))
        index = jnp.maximum(context.segments - 1, 0)[..., None]
        text = jnp.take_along_axis(text, index, axis=1)
        label = jnp.roll(x, -1, axis=1) if self.after else x
        label = self.projector(params["label"], label)
        return self._score(params.get("scorer", {}), text, label)

    def _texts(self, x, context) -> jax.Array:
        """The vector of each text, `[B, R, D]`."""
        batch = context.batch
        mask = context.members(context.controls.skip.shape[1])
        if self.start >= 0:
            begins = mask & (batch.tokens == self.start)[:, None]
            mask = mask & (jnp.cumsum(begins, axis=-1) > 0)
        return pooling.POOLS[POOLS[self.pooling]](x, mask, batch.positions)

    def _score(self, params: dict, text: jax.Array, label: jax.Array) -> jax.Array:
        """The score `[B, T, 1]` of each label's vector with that of its text, `[B, T, D]` both."""
        if self.scorer == "simple":
            return jnp.sum(text * label, axis=-1, keepdims=True)
        if self.scorer == "mlp":
            y = jax.nn.relu(_dense(params["first"], jnp.concatenate([text, label], axis=-1)))
            return _dense(params["third"], jax.nn.relu(_dense(params["second"], y)))
        one, two = jnp.split(_dense(params["text"], text), 2, axis=-1)
        other, second = jnp.split(_dense(params["label"], label), 2, axis=-1)
        y = jnp.concatenate([one, other, two * second], axis=-1)
        return _dense(params["down"], jax.nn.relu(_dense(params["up"], y)))
