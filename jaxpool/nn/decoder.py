"""The decoder of an encoder-decoder: it reads the tokens one behind, and what the encoder made.

Lewis et al., BART (arXiv 1910.13461). Segments keep the texts of a row apart in both directions.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxpool.nn import layers
from jaxpool.nn.arch import Arch
from jaxpool.nn.dropout import Dropout, dropped
from jaxpool.nn.masks import Places
from jaxpool.nn.segments import segment_sums


class Memory(NamedTuple):
    """What the layers of a decoder attend to: vectors `[B, S, D]` and their segments `[B, S]`."""

    vectors: Any
    segments: Any

    @property
    def places(self) -> Places:
        """The places of its vectors."""
        return Places(self.segments, jnp.zeros_like(self.segments))


def parameters(params: dict) -> dict:
    """The decoder's own parameters, with the token embedding that it shares with the encoder."""
    own = params["decoder"]
    return own | {"embed": {"token": params["embed"]["token"], **own.get("embed", {})}}


def behind(batch, arch: Arch):
    """The batch with each text's tokens moved on by one, behind its first token.

    That is `arch.start`, or the last token of the text where `arch.start` is -1. A decoder with a
    text of its own reads it as it is.
    """
    if arch.apart:
        return batch
    tokens, first = batch.tokens, batch.positions == 0
    moved = jnp.roll(tokens, 1, axis=1)
    if arch.start is not None and arch.start >= 0:
        return batch._replace(tokens=jnp.where(first, arch.start, moved))
    after = jnp.pad(batch.segments[:, 1:], ((0, 0), (0, 1)))
    last = segment_sums(batch, jnp.where(after != batch.segments, tokens, 0))
    return batch._replace(tokens=jnp.where(first, last, moved))


def read(
    memory: Memory,
    attention: Callable,
    dropout: Dropout,
    p: dict,
    kept: jax.Array | None,
    keys: Sequence,
) -> Callable:
    """The branch `[B, T, D] -> [B, T, D]` that attends to the memory of a text.

    attention: (kept, rate) -> `attention.attention`'s `attend` in both directions; p: parameters;
    kept: the tokens that the branch gets, all of them if None; dropout: drawn from two `keys`, or
    from none.
    """
    weights_key, key = keys or (None, None)
    attend = attention(kept, dropout.attention)

    def branch(x):
        q = layers.dense(p["query"], x, "btd,dnh->btnh")
        k, v = (layers.dense(p[name], memory.vectors, "btd,dkh->btkh") for name in ("key", "value"))
        out = attend(q, k, v, window=None, key=weights_key)
        return layers.dense(p["out"], out, "btnh,nhd->btd")

    return dropped(branch, dropout.hidden, key)
