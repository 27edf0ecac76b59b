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
        mixed = _attended(self.mask(context), scores, value)
        y = primitives.dense(params["out"], mixed, "brnh,nhd->brd")
        act = primitives.ACTIVATIONS[self.activation]
        hidden = primitives.norm(params["norm"], y, "layer", self.eps)
        hidden = act(primitives.dense(params["up"], hidden, "brd,df->brf"))
        return y + primitives.dense(params["down"], hidden, "brf,fd->brd")


@dataclass(frozen=True)
class Seed(Pool):
    """A learned vector that grows by its attention to the tokens of a segment, and by itself.

    Pooling by multihead attention (PMA, arXiv 1810.00825) as C2LLM has it (arXiv 2512.21332):
    scores are divided by the root of all its features, and what heads give is not projected.
    """

    kinds: tuple[str, ...] = ("seed",)
    name: str = "seed"
    inputs: int = 0
    outputs: int = 0
    heads: int = 0
    eps: float = 1e-5

    def width(self, dim: int) -> int:
        """Features that come out."""
        return self.outputs

    def leaves(self):
        """The parameters of the step."""
        d, o, n, h = self.inputs, self.outputs, self.heads, self.outputs // self.heads
        bias, vector = {"bias": Leaf("N H", (n, h))}, Leaf("O", (o,))
        return {
            "embedding": vector,
            "query": {"kernel": Leaf("O N H", (o, n, h))} | bias,
            **dict.fromkeys(("key", "value"), {"kernel": Leaf("D N H", (d, n, h))} | bias),
            "out": {"kernel": Leaf("I O", (o, o)), "bias": vector},
            **dict.fromkeys(("attention_norm", "out_norm"), {"scale": vector, "bias": vector}),
        }

    def __call__(self, params, x, context):
        """`[B, T, D] -> [B, R, O]`."""
        params = jax.tree.map(lambda leaf: leaf.astype(jnp.float32), params)
        seed = params["embedding"]
        query = primitives.dense(params["query"], seed, "o,onh->nh")
        key, value = (primitives.dense(params[n], x, "btd,dnh->btnh") for n in ("key", "value"))
        scores = jnp.einsum("nh,btnh->bnt", query, key) * self.outputs**-0.5
        mixed = _attended(self.mask(context), scores, value)
        y = seed + mixed.reshape(*mixed.shape[:2], -1)
        y = primitives.norm(params["attention_norm"], y, "layer", self.eps)
        y = y + jax.nn.relu(primitives.dense(params["out"], y, "bri,io->bro"))
        return primitives.norm(params["out_norm"], y, "layer", self.eps)


def _attended(mask: jax.Array, scores: jax.Array, values: jax.Array) -> jax.Array:
    """`[B, R, N, H]` of what segments take: mask `[B, R, T]`, scores `[B, N, T]`."""
    seen = jnp.where(mask[:, :, None], scores[:, None], NEVER)
    return jnp.einsum("brnt,btnh->brnh", jax.nn.softmax(seen, axis=-1), values)
