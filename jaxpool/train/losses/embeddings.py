"""Losses of embeddings with labels or teachers: pairs, triplets, distillation, Matryoshka."""

from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp

from jaxpool.heads.steps import unit
from jaxpool.train.losses.rows import NEVER, as_float32, cosine, length, mean

DISTANCES = {
    "cosine": lambda a, b: 1 - cosine(a, b),
    "euclidean": lambda a, b: length(a - b),
    "manhattan": lambda a, b: jnp.sum(jnp.abs(a - b), axis=-1),
}
SIMILARITIES = {"dot": lambda a, b: jnp.sum(a * b, axis=-1), "cosine": cosine}


def cosent(
    a: jax.Array, b: jax.Array, labels: jax.Array, *, scale: float = 20.0, mask=None
) -> jax.Array:
    """Cosines of pairs in the order of their labels (Su, CoSENT: kexue.fm/archives/8847).

    sentence-transformers' `CoSENTLoss`: log(1 + sum of exp(scale (s_i - s_j))) over all i, j with
    label i < label j. a, b: `[B, D]`; labels: `[B]`; mask: the rows that are there, `[B]`.
    """
    return _ordered(cosine(*as_float32(a, b)), labels, scale, mask)


def angle(
    a: jax.Array, b: jax.Array, labels: jax.Array, *, scale: float = 20.0, mask=None
) -> jax.Array:
    """`cosent` of the angles of vectors read as complex numbers (AnglE, arXiv 2309.12871).

    sentence-transformers' `AnglELoss`; arguments as those of `cosent`.
    """
    odd = ((0, 0), (0, a.shape[1] % 2))
    a, b = (unit(jnp.pad(x, odd)) for x in as_float32(a, b))
    (real, imaginary), (other_real, other_imaginary) = (jnp.split(x, 2, axis=1) for x in (a, b))
    sines = jnp.sum(imaginary * other_real - real * other_imaginary, axis=1)
    return _ordered(jnp.abs(jnp.sum(a * b, axis=1) + sines), labels, scale, mask)


def _ordered(scores, labels, scale: float, mask) -> jax.Array:
    wrong = labels[:, None] < labels[None]
    if mask is not None:
        wrong &= mask[:, None] & mask[None]
    ahead = jnp.where(wrong, scale * (scores[:, None] - scores[None]), NEVER)
    return jax.nn.logsumexp(jnp.append(ahead.ravel(), 0.0))


def cosine_similarity_mse(a: jax.Array, b: jax.Array, labels: jax.Array, *, mask=None) -> jax.Array:
    """The squared error of cosines against labels (arXiv 1908.10084).

    sentence-transformers' `CosineSimilarityLoss`. a, b: `[B, D]`; labels, mask: `[B]`.
    """
    a, b, labels = as_float32(a, b, labels)
    return mean(jnp.square(cosine(a, b) - labels), mask)


def triplet(
    anchors: jax.Array,
    positives: jax.Array,
    negatives: jax.Array,
    *,
    margin: float = 5.0,
    distance: str = "euclidean",
    mask=None,
) -> jax.Array:
    """max(0, distance to the positive - distance to the negative + margin) (arXiv 1703.07737).

    sentence-transformers' `TripletLoss`. All `[B, D]`; distance: a key of `DISTANCES`.
    """
    anchors, positives, negatives = as_float32(anchors, positives, negatives)
    measure = DISTANCES[distance]
    ahead = measure(anchors, positives) - measure(anchors, negatives) + margin
    return mean(jax.nn.relu(ahead), mask)


def contrastive(
    a: jax.Array,
    b: jax.Array,
    labels: jax.Array,
    *,
    margin: float = 0.5,
    distance: str = "cosine",
    mask=None,
) -> jax.Array:
    """Pairs of label 1 drawn together, of label 0 apart up to a margin (Hadsell et al., CVPR 2006).

    sentence-transformers' `ContrastiveLoss`. a, b: `[B, D]`; labels, mask: `[B]`.
    """
    a, b, labels = as_float32(a, b, labels)
    apart = DISTANCES[distance](a, b)
    near, far = jnp.square(apart), jnp.square(jax.nn.relu(margin - apart))
    return mean(0.5 * (labels * near + (1 - labels) * far), mask)


def margin_mse(
    queries: jax.Array,
    positives: jax.Array,
    negatives: jax.Array,
    labels: jax.Array,
    *,
    similarity: str = "dot",
    mask=None,
) -> jax.Array:
    """The squared error of margins against a teacher's (arXiv 2010.02666).

    sentence-transformers' `MarginMSELoss`. queries, positives: `[B, D]`; negatives: `[B, D]` or
    `[B, H, D]`; labels: the teacher's margins `[B]` or `[B, H]`, or its scores of the positive and
    all negatives, `[B, 1 + H]`; similarity: a key of `SIMILARITIES`; mask: `[B]`.
    """
    queries, positives, negatives, labels = as_float32(queries, positives, negatives, labels)
    negatives = negatives.reshape(len(queries), -1, queries.shape[-1])
    labels = labels.reshape(len(queries), -1)
    if labels.shape[1] == negatives.shape[1] + 1:
        labels = labels[:, :1] - labels[:, 1:]
    if labels.shape != negatives.shape[:2]:
        raise ValueError(f"margin_mse: {negatives.shape[1]} negatives, labels {labels.shape}")
    compare = SIMILARITIES[similarity]
    margins = compare(queries, positives)[:, None] - compare(queries[:, None], negatives)
    return mean(jnp.square(margins - labels), mask)


def distill_kl(
    queries: jax.Array,
    documents: jax.Array,
    labels: jax.Array,
    *,
    temperature: float = 1.0,
    similarity: str = "dot",
    mask=None,
) -> jax.Array:
    """KL divergence from a teacher's distribution over candidates (arXiv 2010.11386).

    sentence-transformers' `DistillKLDivLoss`, which multiplies by temperature². queries: `[B, D]`;
    documents: the candidates of each, `[B, N, D]`; labels: the teacher's scores, `[B, N]`.
    """
    queries, documents, labels = as_float32(queries, documents, labels)
    scores = SIMILARITIES[similarity](queries[:, None], documents) / temperature
    wanted = jax.nn.log_softmax(labels / temperature)
    terms = jnp.exp(wanted) * (wanted - jax.nn.log_softmax(scores))
    return mean(jnp.sum(terms, axis=1), mask) * temperature**2


def embedding_mse(embeddings: jax.Array, labels: jax.Array, *, mask=None) -> jax.Array:
    """The squared error against a teacher's vectors (arXiv 2004.09813).

    sentence-transformers' `MSELoss`. embeddings, labels: `[B, D]`; mask: `[B]`.
    """
    embeddings, labels = as_float32(embeddings, labels)
    return mean(jnp.square(embeddings - labels), mask)


def matryoshka(
    loss: Callable[..., jax.Array], dims: Sequence[int], weights: Sequence[float] | None = None
) -> Callable[..., jax.Array]:
    """The weighted sum of a loss on leading features (Matryoshka, arXiv 2205.13147).

    sentence-transformers' `MatryoshkaLoss`: the result takes what `loss` takes, and cuts and
    normalizes every argument by position that has as many features as the first.
    """
    if not dims or min(dims) < 1 or len(weights or dims) != len(dims):
        raise ValueError(f"matryoshka: wanted a weight for each dim, got {dims}, {weights}")

    def nested(*arrays: jax.Array, **options) -> jax.Array:
        full = arrays[0].shape[-1]
        if max(dims) > full:
            raise ValueError(f"matryoshka: dims {tuple(dims)} exceed the {full} features")

        def cut(x, dim):
            vectors = x.ndim > 1 and x.shape[-1] == full
            return unit(as_float32(x)[0][..., :dim]) if vectors else x

        terms = (
            weight * loss(*(cut(x, dim) for x in arrays), **_cut_named(options, cut, dim))
            for dim, weight in zip(dims, weights or [1.0] * len(dims), strict=True)
        )
        return sum(terms, jnp.float32(0.0))

    return nested


def _cut_named(options: dict, cut: Callable, dim: int) -> dict:
    return {k: cut(v, dim) if isinstance(v, jax.Array) else v for k, v in options.items()}
