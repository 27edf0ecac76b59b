"""Contrastive losses in which the other rows of a batch are the negatives."""

import jax
import jax.numpy as jnp

from jaxpool.heads.steps import unit
from jaxpool.train.losses.rows import NEVER, as_float32, mean, product


def info_nce(
    queries: jax.Array,
    documents: jax.Array,
    *,
    scale: float = 20.0,
    negatives: jax.Array | None = None,
    symmetric: bool = False,
    cosine: bool = True,
    mask: jax.Array | None = None,
) -> jax.Array:
    """InfoNCE over cosines with in-batch and hard negatives (arXiv 1807.03748, 1705.00652).

    sentence-transformers' `MultipleNegativesRankingLoss`; `symmetric` adds the other direction,
    its `directions=("query_to_doc", "doc_to_query"), partition_mode="per_direction"`.
    queries, documents: `[B, D]`, row by row; negatives: hard ones of each query, `[B, H, D]`,
    which are negatives of every other query too; cosine: False for dot products; mask: the rows
    that are there, `[B]`.
    """
    scaled = unit if cosine else lambda vectors: vectors
    queries, documents = map(scaled, as_float32(queries, documents))
    scores = scale * product(queries, documents)
    matching = jnp.diagonal(scores)
    among = [_masked(scores, mask)]
    if negatives is not None:
        (hard,) = as_float32(negatives)
        each = scale * product(queries, scaled(hard).reshape(-1, hard.shape[-1]))
        there = None if mask is None else jnp.repeat(mask, hard.shape[1])
        among.append(_masked(each, there))
    total = jax.nn.logsumexp(jnp.concatenate(among, axis=1), axis=1)
    if symmetric:
        total = (total + jax.nn.logsumexp(_masked(scores.T, mask), axis=1)) / 2
    return mean(total - matching, mask)


def gist(
    queries: jax.Array,
    documents: jax.Array,
    guide_queries: jax.Array,
    guide_documents: jax.Array,
    *,
    temperature: float = 0.01,
    margin: float = 0.0,
    relative: bool = False,
    negatives: jax.Array | None = None,
    guide_negatives: jax.Array | None = None,
    mask: jax.Array | None = None,
) -> jax.Array:
    """InfoNCE without the negatives that a guide holds for positives (GISTEmbed, arXiv 2402.16829).

    sentence-transformers' `GISTEmbedLoss`. Every row is compared with documents, queries, and
    documents with documents; left out is what the guide finds closer than the matching pair, less
    `margin` (`relative`: less that share of it). queries, documents, negatives: `[B, D]`; those of
    the guide `[B, G]`, without gradient; mask: the rows that are there, `[B]`.
    """
    sides = as_float32(queries, documents, *(() if negatives is None else (negatives,)))
    guides = as_float32(
        guide_queries, guide_documents, *(() if guide_negatives is None else (guide_negatives,))
    )
    if len(sides) != len(guides):
        raise ValueError("gist: negatives and guide_negatives go together")
    sides = tuple(map(unit, sides))
    guides = tuple(jax.lax.stop_gradient(unit(x)) for x in guides)
    own = jnp.sum(guides[0] * guides[1], axis=-1, keepdims=True)
    limit = own - (jnp.abs(own) if relative else 1.0) * margin
    same = jnp.eye(len(own), dtype=bool)
    parts = []
    for a, b in ((0, 1), (0, 0), (1, 1), (0, 2))[: 2 + len(sides) - 1]:
        left_out = product(guides[a], guides[b]) > limit
        left_out &= ~same if (a, b) == (0, 1) else True
        scores = jnp.where(left_out, NEVER, product(sides[a], sides[b]) / temperature)
        parts.append(_masked(scores, mask))
    scores = jnp.concatenate(parts, axis=1)
    return mean(jax.nn.logsumexp(scores, axis=1) - jnp.diagonal(scores), mask)


def _masked(scores: jax.Array, columns: jax.Array | None) -> jax.Array:
    """Scores `[B, N]` without the columns that are not there."""
    return scores if columns is None else jnp.where(columns[None], scores, NEVER)
