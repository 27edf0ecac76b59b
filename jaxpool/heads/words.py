"""Steps (see `jaxpool.heads.steps`) that pool with a weight for each entry of a vocabulary."""

from dataclasses import dataclass

import jax
import jax.numpy as jnp

from jaxpool.heads.pooling import POOLS
from jaxpool.heads.steps import Pool, PoolSlots
from jaxpool.nn.leaf import Leaf


@dataclass(frozen=True)
class WeighedPool(Pool):
    """Pooling of tokens times a weight of their id (sentence-transformers' WordWeights).

    Means divide by the sum of those weights (by theirs alone also in `weightedmean`).
    """

    name: str
    vocab: int

    def leaves(self):
        """The parameters of the step."""
        return {"embedding": Leaf("V O", (self.vocab, 1))}

    def __call__(self, params, x, context):
        """`[B, T, F] -> [B, R, F * kinds]`."""
        mask, positions = self.mask(context), context.batch.positions
        weights = jnp.take(params["embedding"], context.batch.tokens, axis=0, mode="clip")
        weights = weights.astype(jnp.float32)
        level = jnp.maximum(POOLS["mean"](weights, mask, positions), 1e-9)
        place = POOLS["mean"]((positions + 1)[..., None], mask, positions)
        scale = {
            "mean": 1 / level,
            "mean_sqrt_len_tokens": jax.lax.rsqrt(level),
            "weightedmean": place / level,
        }
        parts = [
            POOLS[kind](x * weights, mask, positions) * scale.get(kind, 1.0) for kind in self.kinds
        ]
        return jnp.concatenate(parts, axis=-1)


@dataclass(frozen=True)
class WordsPresent(PoolSlots):
    """A weight for each word that a text has, whatever its token vectors are.

    sentence-transformers' SparseStaticEmbedding: inverse document frequencies of a query's words.
    omitted: ids that count as no words.
    """

    name: str
    vocab: int
    omitted: tuple[int, ...] = ()

    def width(self, dim: int) -> int:
        """Features that come out: the vocabulary."""
        return self.vocab

    def leaves(self):
        """The parameters of the step."""
        return {"embedding": Leaf("V", (self.vocab,))}

    def __call__(self, params, x, context):
        """`[B, T, F] -> [S, V]`."""
        slots, tokens = self.slots(context), context.batch.tokens
        weights = jnp.take(params["embedding"], tokens, mode="clip").astype(jnp.float32)
        weights = jnp.where(jnp.isin(tokens, jnp.array(self.omitted, tokens.dtype)), 0.0, weights)
        found = jnp.zeros((len(context.controls.slots), self.vocab), jnp.float32)
        return found.at[slots, tokens].set(weights, mode="drop")
