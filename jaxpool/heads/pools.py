"""Pools that models of texts and pictures have beside the plain ones of `steps`."""

from dataclasses import dataclass

import jax
import jax.numpy as jnp

from jaxpool.heads.pooling import POOLS
from jaxpool.heads.steps import Pool
from jaxpool.nn import primitives
from jaxpool.nn.leaf import Leaf
from jaxpool.nn.segments import NEVER


@dataclass(frozen=True)
class PoolUntil(Pool):
    """Pooling of the tokens up to the first one of an id: all where a text has none.

    CLIP takes the first end of text, be it one that the text itself contains.
    """

    token: int = 0

    def mask(self, context):
        """The tokens each segment pools over: bool `[B, R, T]`."""
        own = super().mask(context)
        ends = own & (context.batch.tokens == self.token)[:, None]
        return own & (jnp.cumsum(ends, axis=-1) - ends.astype(jnp.int32) == 0)


@dataclass(frozen=True)
class PoolTo(Pool):
    """Pooling of the tokens up to the last one of an id: all where a text has none."""

    token: int = 0

    def mask(self, context):
        """The tokens each segment pools over: bool `[B, R, T]`."""
        own = super().mask(context)
        ends = own & (context.batch.tokens == self.token)[:, None]
        follows = jnp.cumsum(ends[..., ::-1], axis=-1)[..., ::-1] > 0
        return own & (follows | ~jnp.any(ends, axis=-1, keepdims=True))


@dataclass(frozen=True)
class PoolSpans(Pool):
    """Pooling of the tokens from each `first` to the next `last`: all where a text has none."""

    first: int = 0
    last: int = 0

    def mask(self, context):
        """The tokens each segment pools over: bool `[B, R, T]`."""
        own, tokens = super().mask(context), context.batch.tokens[:, None]
        ends = own & (tokens == self.last)
        begun = jnp.cumsum(own & (tokens == self.first), axis=-1)
        ended = jnp.cumsum(ends, axis=-1) - ends.astype(jnp.int32)
        inside = own & (begun > ended)
        return jnp.where(jnp.any(inside, axis=-1, keepdims=True), inside, own)


@dataclass(frozen=True)
class PoolPatches(Pool):
    """Pooling of a picture's patches, the tokens from `first`; "cls" is the one before them all."""

    first: int = 0

    def __call__(self, params, x, context):
        """`[B, T, F] -> [B, R, F * kinds]`."""
        every, positions = self.mask(context), context.batch.positions
        patches = every & (positions >= self.first)[:, None]
        masks = [every if kind == "cls" else patches for kind in self.kinds]
        pooled = [POOLS[k](x, mask, positions) for k, mask in zip(self.kinds, masks, strict=True)]
        return jnp.concatenate(pooled, axis=-1)


@dataclass(frozen=True)
class Probe(Pool):
    """Attention of one learned query to the tokens of a segment, and an MLP (SigLIP's head)."""

    kinds: tuple[str, ...] = ("probe",)
    name: str = "probe"
    dim: int = 0
    heads: int = 0
    mlp_dim: int = 0
    activation: str = "gelu_tanh"
    eps: float = 1e-6

    def leaves(self):
        """The parameters of the step."""
        d, n, h, f = self.dim, self.heads, self.dim // self.heads, self.mlp_dim
        into = {"kernel": Leaf("D N H", (d, n, h)), "bias": Leaf("N H", (n, h))}
        vector = Leaf("D", (d,))
        return {
            "embedding": vector,
            **dict.fromkeys(("query", "key", "value"), into),
            "out": {"kernel": Leaf("N H D", (n, h, d)), "bias": vector},
            "norm": {"scale": vector, "bias": vector},
            "up": {"kernel": Leaf("D F", (d, f)), "bias": Leaf("F", (f,))},
            "down": {"kernel": Leaf("F D", (f, d)), "bias": vector},
        }

    def __call__(self, params, x, context):
        """`[B, T, D] -> [B, R, D]`."""
        params = jax.tree.map(lambda leaf: leaf.astype(jnp.float32), params)
        query = primitives.dense(params["query"], params["embedding"], "d,dnh->nh")
        key, value = (primitives.dense(params[n], x, "btd,dnh->btnh") for n in ("key", "value"))
        scores = jnp.einsum("nh,btnh->bnt", query, key) * (self.dim // self.heads) ** -0.5
        seen = self.mask(context)[:, :, None]
        weights = jax.nn.softmax(jnp.where(seen, scores[:, None], NEVER), axis=-1)
        mixed = jnp.einsum("brnt,btnh->brnh", weights, value)
        y = primitives.dense(params["out"], mixed, "brnh,nhd->brd")
        act = primitives.ACTIVATIONS[self.activation]
        hidden = primitives.norm(params["norm"], y, "layer", self.eps)
        hidden = act(primitives.dense(params["up"], hidden, "brd,df->brf"))
        return y + primitives.dense(params["down"], hidden, "brf,fd->brd")
