"""`PoolOthers`: pooling over all tokens but some, by their ids."""

from dataclasses import dataclass

import jax.numpy as jnp

from jaxpool.heads.steps import Pool


@dataclass(frozen=True)
class PoolOthers(Pool):
    """Pooling that leaves out the tokens `omitted`, such as a sparse model's special tokens."""

    omitted: tuple[int, ...] = ()

    def mask(self, context):
        """The tokens each segment pools over: bool `[B, R, T]`."""
        tokens = context.batch.tokens
        left = jnp.isin(tokens, jnp.array(self.omitted, tokens.dtype))
        return super().mask(context) & ~left[:, None, :]
