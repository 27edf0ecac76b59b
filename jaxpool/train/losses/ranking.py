"""Losses of cross-encoders: logits of pairs, and lists of candidates with graded labels."""

import jax
import jax.numpy as jnp

from jaxpool.train.losses.rows import NEVER, as_float32, mean


def bce(
    logits: jax.Array, labels: jax.Array, *, positive_weight: float = 1.0, mask=None
) -> jax.Array:
    """Binary cross-entropy of logits `[B]` against labels in [0, 1], `[B]`.

    sentence-transformers' `BinaryCrossEntropyLoss` (torch's `BCEWithLogitsLoss`).
    """
    logits, labels = as_float32(logits, labels)
    yes, no = jax.nn.log_sigmoid(logits), jax.nn.log_sigmoid(-logits)
    return mean(-positive_weight * labels * yes - (1 - labels) * no, mask)


def cross_entropy(logits: jax.Array, labels: jax.Array, *, mask=None) -> jax.Array:
    """Cross-entropy of logits `[B, C]` against classes, int `[B]`, or probabilities `[B, C]`.

    sentence-transformers' `CrossEntropyLoss` for cross-encoders.
    """
    shares = jax.nn.log_softmax(logits.astype(jnp.float32))
    if labels.ndim == 1:
        return mean(-jnp.take_along_axis(shares, labels[:, None], axis=1)[:, 0], mask)
    return mean(-jnp.sum(labels * shares, axis=1), mask)


def list_net(logits: jax.Array, labels: jax.Array, *, mask=None) -> jax.Array:
    """Cross-entropy of a list's softmax against that of its labels (Cao et al., ICML 2007).

    sentence-transformers' `ListNetLoss`. logits, labels: `[B, N]`; mask: the candidates that are
    there, `[B, N]`, at least one in each list that counts.
    """
    logits, labels = as_float32(logits, labels)
    mask = jnp.ones(logits.shape, bool) if mask is None else mask
    wanted = jax.nn.softmax(jnp.where(mask, labels, NEVER))
    shares = jax.nn.log_softmax(jnp.where(mask, logits, NEVER))
    terms = jnp.sum(jnp.where(mask, wanted * shares, 0.0), axis=1)
    return mean(-terms, jnp.any(mask, axis=1))


def lambda_rank(
    logits: jax.Array,
    labels: jax.Array,
    *,
    sigma: float = 1.0,
    k: int | None = None,
    scheme: str = "ndcg2++",
    mu: float = 10.0,
    mask=None,
) -> jax.Array:
    """Pairs of a list by what their exchange would change in NDCG (LambdaLoss, Wang et al. 2018).

    sentence-transformers' `LambdaLoss`; scheme: "ndcg2++" (its default), "lambda_rank", "ndcg2" or
    "none" (RankNet). logits, labels: `[B, N]`, labels at least 0; k: only pairs with one of the
    first k by score; mask: the candidates that are there, `[B, N]`.
    """
    logits, labels = as_float32(logits, labels)
    mask = jnp.ones(logits.shape, bool) if mask is None else mask
    order = jnp.argsort(jnp.where(mask, -logits, -NEVER), axis=1, stable=True)
    scores, grades, there = (jnp.take_along_axis(x, order, 1) for x in (logits, labels, mask))
    count = logits.shape[1]
    place = jnp.arange(count, dtype=jnp.float32)
    discount = jnp.log2(place + 2.0)
    ideal = -jnp.sort(-jnp.where(mask, labels, 0.0), axis=1)
    best = jnp.sum(((jnp.exp2(ideal) - 1) / discount)[:, :k], axis=1, keepdims=True)
    gain = (jnp.exp2(jnp.where(there, grades, 0.0)) - 1) / jnp.maximum(best, 1e-10)
    weights = _weights(scheme, gain, discount, mu)
    counted = there[:, :, None] & there[:, None] & (grades[:, :, None] > grades[:, None])
    if k:
        counted &= (place[:, None] < k) | (place[None] < k)
    apart = jnp.clip(scores[:, :, None] - scores[:, None], -1e8, 1e8)
    terms = weights * jax.nn.log_sigmoid(sigma * jnp.where(counted, apart, 0.0)) / jnp.log(2.0)
    total = jnp.sum(counted, dtype=jnp.float32)
    return -jnp.sum(jnp.where(counted, terms, 0.0)) / jnp.maximum(total, 1.0)


def _weights(scheme: str, gain: jax.Array, discount: jax.Array, mu: float) -> jax.Array:
    """The weight of each pair `[B, N, N]`, candidates in the order of their scores."""
    if scheme not in ("ndcg2++", "lambda_rank", "ndcg2", "none"):
        raise ValueError(f"lambda_rank: unknown scheme {scheme!r}")
    if scheme == "none":
        return jnp.ones(())
    exchange = jnp.abs(gain[:, :, None] - gain[:, None])
    swapped = jnp.abs(1 / discount[:, None] - 1 / discount[None]) * exchange
    if scheme == "lambda_rank":
        return swapped
    place = jnp.arange(len(discount), dtype=jnp.float32)
    distance = jnp.abs(place[:, None] - place[None])
    bound = jnp.abs(1 / jnp.log2(distance + 1.0) - 1 / jnp.log2(distance + 2.0))
    bound = jnp.where(distance > 0, bound, 0.0) * exchange
    return bound if scheme == "ndcg2" else mu * bound + swapped


def ranking_margin(
    positives: jax.Array, negatives: jax.Array, *, margin: float = 1.0, mask=None
) -> jax.Array:
    """max(0, margin - positive + negative) of logits, `[B]` each: torch's `MarginRankingLoss`."""
    positives, negatives = as_float32(positives, negatives)
    return mean(jax.nn.relu(margin - positives + negatives), mask)
