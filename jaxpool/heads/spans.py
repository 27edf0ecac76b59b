"""Scores of spans of words for labels that stand before a text (GLiNER, arXiv 2311.08526)."""

from dataclasses import dataclass

import jax
import jax.numpy as jnp

from jaxpool.heads.recurrent import bidirectional, lstm_leaves
from jaxpool.nn import layers
from jaxpool.nn.params import Leaf

LABELS = (8, 32, 128)  # how many labels of a text a program has room for


def _linear(inputs: int, outputs: int) -> dict:
    return {"kernel": Leaf("I O", (inputs, outputs)), "bias": Leaf("O", (outputs,))}


def _mlp_leaves(inputs: int, outputs: int) -> dict:
    return {"up": _linear(inputs, 4 * outputs), "down": _linear(4 * outputs, outputs)}


def _dense(params: dict, x: jax.Array) -> jax.Array:
    return layers.dense(params, x, "...i,io->...o")


def _mlp(params: dict, x: jax.Array) -> jax.Array:
    return _dense(params["down"], jax.nn.relu(_dense(params["up"], x)))


@dataclass(frozen=True)
class Spans:
    """The logit of each span that begins at a word, for each label of its text.

    A word is the vector of its first token (`Controls.words`), after a recurrence over the words. A
    span is its first word and its last, at most `words` of them. dim, hidden: features of tokens,
    and of words and labels; token: what a label follows in the prompt; labels: the most of a text;
    recurrent: whether there is a recurrence; after: a label's vector is that of the token after
    its marker.
    """

    name: str
    dim: int
    hidden: int
    words: int
    token: int
    labels: int = LABELS[0]
    recurrent: bool = True
    after: bool = False

    def width(self, dim: int) -> int:
        """Features that come out."""
        return self.words * self.labels

    def leaves(self) -> dict:
        """The parameters of the step."""
        h = self.hidden
        names = ("start", "end", "label")
        tree = {name: _mlp_leaves(h, h) for name in names} | {"span": _mlp_leaves(2 * h, h)}
        return tree | self._shared()

    def _shared(self) -> dict:
        """The parameters before words and labels meet."""
        d, h = self.dim, self.hidden
        tree = {"project": _linear(d, h)} if d != h else {}
        return tree | ({"recurrence": lstm_leaves(h, h // 2)} if self.recurrent else {})

    def _read(self, params: dict, x: jax.Array, context) -> tuple[jax.Array, jax.Array]:
        """The vectors of words `[B, T, D]`, where they begin, and of labels `[B, R, C, D]`."""
        if "project" in params:
            x = _dense(params["project"], x)
        label, begins = self._labels(x, context), context.controls.words > 0
        if self.recurrent:
            x = bidirectional(params["recurrence"], x, begins, context.batch.segments)
        return x, label

    def __call__(self, params, x, context):
        """`[B, T, D] -> [B, T, W C]`, arbitrary but at the tokens where words begin."""
        params = jax.tree.map(lambda leaf: leaf.astype(jnp.float32), params)
        segments, begins = context.batch.segments, context.controls.words > 0
        x, label = self._read(params, x, context)
        label = _mlp(params["label"], label)
        start, end = _mlp(params["start"], x), _mlp(params["end"], x)
        order = jnp.argsort(~begins, axis=1, stable=True)  # the tokens of words, in order
        number = jnp.cumsum(begins, axis=1) - 1  # of each token's word
        last, own = x.shape[1] - 1, jnp.maximum(segments - 1, 0)[..., None, None]

        def score(width: jax.Array) -> jax.Array:
            place = jnp.take_along_axis(order, jnp.clip(number + width, 0, last), axis=1)
            ends = jnp.take_along_axis(end, place[..., None], axis=1)
            span = _mlp(params["span"], jax.nn.relu(jnp.concatenate([start, ends], axis=-1)))
            every = jnp.einsum("btd,brcd->btrc", span, label)
            return jnp.take_along_axis(every, own, axis=2)[:, :, 0]

        scores = jax.lax.map(score, jnp.arange(self.words))  # [W, B, T, C]
        return jnp.moveaxis(scores, 0, 2).reshape(*segments.shape, -1)

    def _labels(self, x: jax.Array, context) -> jax.Array:
        """The vector of each label of each text, `[B, R, C, D]`; zeros beyond the last one."""
        own = context.members(context.controls.skip.shape[1])
        own &= (context.batch.tokens == self.token)[:, None]
        rank = jnp.cumsum(own, axis=-1)[:, :, None]
        numbers = jnp.arange(1, self.labels + 1)[:, None]
        chosen = (own[:, :, None] & (rank == numbers)).astype(jnp.float32)
        vectors = jnp.roll(x, -1, axis=1) if self.after else x
        exact = jax.lax.Precision.HIGHEST
        return jnp.einsum("brct,btd->brcd", chosen, vectors, precision=exact)


@dataclass(frozen=True)
class Marks(Spans):
    """The logits of each word as the first, the last and any of a span, for each label of its text.

    There is no longest span, and `words` is not read.
    """

    def width(self, dim: int) -> int:
        """Features that come out."""
        return 3 * self.labels

    def leaves(self) -> dict:
        """The parameters of the step."""
        h = self.hidden
        scorer = {"word": _linear(h, 2 * h), "label": _linear(h, 2 * h)}
        return scorer | {"up": _linear(3 * h, 4 * h), "down": _linear(4 * h, 3)} | self._shared()

    def __call__(self, params, x, context):
        """`[B, T, D] -> [B, T, 3 C]`, arbitrary but at the tokens where words begin."""
        params = jax.tree.map(lambda leaf: leaf.astype(jnp.float32), params)
        segments = context.batch.segments
        x, label = self._read(params, x, context)
        one, two = jnp.split(_dense(params["word"], x), 2, axis=-1)
        label = _dense(params["label"], label)
        own = jnp.maximum(segments - 1, 0)[..., None]

        def score(mine: jax.Array) -> jax.Array:
            mine = jnp.take_along_axis(mine, own, axis=1)  # of each token's text
            other, second = jnp.split(mine, 2, axis=-1)
            y = jnp.concatenate([one, other, two * second], axis=-1)
            return _dense(params["down"], jax.nn.relu(_dense(params["up"], y)))

        scores = jax.lax.map(score, jnp.moveaxis(label, 2, 0))  # [C, B, T, 3]
        return jnp.moveaxis(scores, 0, 3).reshape(*segments.shape, -1)


def reads_words(chains) -> bool:
    """Whether some chains score spans of words."""
    return any(isinstance(step, Spans) for steps in chains for step in steps)
