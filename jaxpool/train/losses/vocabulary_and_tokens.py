"""Losses of word weights (SPLADE) and of token vectors (late interaction)."""

import jax
import jax.numpy as jnp

from jaxpool.train.losses.rows import NEVER, as_float32, mean


def splade_flops(weights: jax.Array, *, threshold: int | None = None, mask=None) -> jax.Array:
    """The sum over words of the squared mean weight, which keeps vectors sparse (arXiv 2004.05665).

    sentence-transformers' `FlopsLoss`. weights: `[B, V]`; threshold: rows with no more non-zero
    words count as zero; mask: the rows that are there, `[B]`.
    """
    (weights,) = as_float32(weights)
    mask = jnp.ones(len(weights), bool) if mask is None else mask
    counted = mask
    if threshold is not None:
        counted &= jnp.sum(weights != 0, axis=1) > threshold
    total = jnp.sum(jnp.where(counted[:, None], weights, 0.0), axis=0)
    return jnp.sum(jnp.square(total / jnp.maximum(jnp.sum(mask, dtype=jnp.float32), 1.0)))


def maxsim_info_nce(
    queries: jax.Array,
    documents: jax.Array,
    query_tokens: jax.Array,
    document_tokens: jax.Array,
    *,
    scale: float = 1.0,
    mask: jax.Array | None = None,
) -> jax.Array:
    """InfoNCE over MaxSim scores (ColBERT, arXiv 2004.12832).

    sentence-transformers' `MultiVectorMultipleNegativesRankingLoss`. queries: token vectors
    `[B, T, D]`; documents: `[N, S, D]`, the first B those that match, the rest hard negatives;
    query_tokens, document_tokens: the tokens that count, bool `[B, T]`, `[N, S]`; mask: the
    documents that are there, `[N]`, the first B of it the queries too.
    """
    queries, documents = as_float32(queries, documents)

    def against(document, tokens):
        similar = jnp.einsum("btd,sd->bts", queries, document, precision=jax.lax.Precision.HIGHEST)
        best = jnp.max(jnp.where(tokens, similar, NEVER), axis=2)
        return jnp.sum(jnp.where(query_tokens, best, 0.0), axis=1)

    # A document at a time, made again in the backward pass: never all [B, N, T, S] at once.
    every = jax.lax.map(lambda pair: jax.checkpoint(against)(*pair), (documents, document_tokens))
    scores = scale * every.T
    if mask is not None:
        scores = jnp.where(mask[None], scores, NEVER)
    terms = jax.nn.logsumexp(scores, axis=1) - jnp.diagonal(scores)
    return mean(terms, None if mask is None else mask[: len(queries)])
