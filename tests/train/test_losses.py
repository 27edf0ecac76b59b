"""Every loss and its gradient beside sentence-transformers' torch class: ties, hard negatives.

Rows that are masked hold large values: a loss and its gradient are those of the rest alone.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from sentence_transformers.multi_vector_encoder import losses as token_losses
from sentence_transformers.multi_vector_encoder.losses import (
    multiple_negatives_ranking as late_module,
)
from sentence_transformers.sentence_transformer import losses as st
from sentence_transformers.sentence_transformer.losses import gist_embed
from sentence_transformers.sparse_encoder.losses import FlopsLoss

from jaxpool.train import losses

TOLERANCE = 1e-5
ROWS, DIM, HARD = 6, 9, 3
RANDOM = np.random.default_rng(0)


def vectors(*shape):
    return RANDOM.normal(0, 1, shape).astype(np.float32)


Q, D, E = (vectors(ROWS, DIM) for _ in range(3))
D[3] = D[1]  # ties
N = vectors(ROWS, HARD, DIM)
GRADES = np.float32([0.2, 0.9, 0.2, 0.5, 0.9, 0.0])
BINARY = np.float32([1, 0, 0, 1, 1, 0])
MARGINS, SCORES = vectors(ROWS, HARD), vectors(ROWS, HARD + 1)


def columns(array):
    return list(array.unbind(1))


def embedded(make, labels=None):
    """The reference on embeddings, of a class that computes on them."""
    return lambda *arrays: make.compute_loss_from_embeddings(
        [part for a in arrays for part in (columns(a) if a.ndim == 3 else [a])],
        None if labels is None else torch.tensor(labels),
    )


def symmetric():
    directions = ("query_to_doc", "doc_to_query")
    return st.MultipleNegativesRankingLoss(
        None, directions=directions, partition_mode="per_direction"
    )


def metric(kind, name):
    """A distance of sentence-transformers; Enum takes the lambdas for methods."""
    return getattr(kind, name)


MNRL = st.MultipleNegativesRankingLoss
DISTANCE, SIAMESE = st.TripletDistanceMetric, st.SiameseDistanceMetric
# name: (ours, the reference, the arrays of both)
CASES = {
    "info_nce": (losses.info_nce, embedded(MNRL(None)), (Q, D)),
    "info_nce, hard": (
        lambda q, d, n, **o: losses.info_nce(q, d, negatives=n, scale=7.0, **o),
        embedded(MNRL(None, scale=7.0)),
        (Q, D, N),
    ),
    "info_nce, symmetric": (
        lambda q, d, n, **o: losses.info_nce(q, d, negatives=n, symmetric=True, **o),
        embedded(symmetric()),
        (Q, D, N),
    ),
    "cosent": (
        lambda a, b, **o: losses.cosent(a, b, GRADES, **o),
        embedded(st.CoSENTLoss(None), GRADES),
        (Q, D),
    ),
    "angle": (
        lambda a, b, **o: losses.angle(a, b, GRADES, **o),
        embedded(st.AnglELoss(None), GRADES),
        (Q, D),
    ),
    "cosine_similarity_mse": (
        lambda a, b, **o: losses.cosine_similarity_mse(a, b, GRADES, **o),
        embedded(st.CosineSimilarityLoss(None), GRADES),
        (Q, D),
    ),
    **{
        f"triplet, {name}": (
            lambda *a, name=name, **o: losses.triplet(*a, distance=name, margin=1.0, **o),
            embedded(st.TripletLoss(None, metric(DISTANCE, name.upper()), triplet_margin=1.0)),
            (Q, D, E),
        )
        for name in ("cosine", "euclidean", "manhattan")
    },
    "contrastive": (
        lambda a, b, **o: losses.contrastive(a, b, BINARY, margin=1.2, **o),
        embedded(st.ContrastiveLoss(None, margin=1.2), BINARY),
        (Q, D),
    ),
    "margin_mse": (
        lambda q, p, n, **o: losses.margin_mse(q, p, n, MARGINS, **o),
        embedded(st.MarginMSELoss(None), MARGINS),
        (Q, D, N),
    ),
    "margin_mse, scores": (
        lambda q, p, n, **o: losses.margin_mse(q, p, n, SCORES, **o),
        embedded(st.MarginMSELoss(None), SCORES),
        (Q, D, N),
    ),
    "distill_kl": (
        lambda q, n, **o: losses.distill_kl(q, n, MARGINS, temperature=2.0, **o),
        embedded(st.DistillKLDivLoss(None, temperature=2.0), MARGINS),
        (Q, N),
    ),
    "embedding_mse": (
        lambda a, **o: losses.embedding_mse(a, E, **o),
        lambda a: st.MSELoss(None).compute_loss_from_embeddings([a], [torch.tensor(E)]),
        (Q,),
    ),
    "splade_flops": (
        lambda w, **o: losses.splade_flops(jax.nn.relu(w), **o),
        lambda w: FlopsLoss(None).compute_loss_from_embeddings(torch.relu(w)),
        (Q,),
    ),
    "splade_flops, threshold": (
        lambda w: losses.splade_flops(jax.nn.relu(w), threshold=4),
        lambda w: FlopsLoss(None, threshold=4).compute_loss_from_embeddings(torch.relu(w)),
        (Q,),
    ),
    "ranking_margin": (
        lambda a, b, **o: losses.ranking_margin(a, b, margin=0.7, **o),
        lambda a, b: torch.nn.MarginRankingLoss(0.7)(a, b, torch.ones(len(a))),
        (Q[:, 0], D[:, 0]),
    ),
}


def gradient(ours, arrays):
    """Value and gradients of ours, under jit."""
    jitted = jax.jit(jax.value_and_grad(ours, argnums=tuple(range(len(arrays)))))
    return jitted(*map(jnp.asarray, arrays))


def check(ours, reference, arrays):
    value, gradients = gradient(ours, arrays)
    inputs = [torch.tensor(array, requires_grad=True) for array in arrays]
    wanted = reference(*inputs)
    wanted.backward()
    np.testing.assert_allclose(value, wanted.item(), rtol=TOLERANCE, atol=TOLERANCE)
    for ours_, theirs in zip(gradients, inputs, strict=True):
        np.testing.assert_allclose(ours_, theirs.grad, rtol=0, atol=TOLERANCE)


@pytest.mark.parametrize("name", CASES)
def test_embeddings(name):
    check(*CASES[name])


MASKED = [name for name in CASES if name != "splade_flops, threshold"]


@pytest.mark.parametrize("name", MASKED)
def test_masked_rows_count_nowhere(name, monkeypatch):
    ours, reference, arrays = CASES[name]
    value, gradients = gradient(ours, arrays)
    # Two rows more, one of zeros as padding gives, one that would change everything.
    longer = [np.concatenate([a, np.zeros_like(a[:1]), 50 * a[:1]]) for a in arrays]
    for labels in ("GRADES", "BINARY", "MARGINS", "SCORES", "E"):
        old = globals()[labels]
        monkeypatch.setitem(globals(), labels, np.concatenate([old, old[:2]]))
    mask = jnp.arange(ROWS + 2) < ROWS
    again, masked = gradient(lambda *a: ours(*a, mask=mask), longer)
    np.testing.assert_allclose(again, value, rtol=TOLERANCE, atol=TOLERANCE)
    for before, after in zip(gradients, masked, strict=True):
        np.testing.assert_allclose(after[:ROWS], before, rtol=0, atol=TOLERANCE)
        np.testing.assert_array_equal(after[ROWS:], 0.0)


@pytest.mark.parametrize("relative", [False, True])
@pytest.mark.parametrize("hard", [False, True])
def test_gist(monkeypatch, relative, hard):
    guides = [vectors(ROWS, 5) for _ in range(2 + hard)]
    guides[1][2] = guides[1][4] = guides[0][2]  # what the guide takes for a positive
    monkeypatch.setattr(gist_embed, "embed_columns", lambda model, features: list(model))

    def reference(*arrays):
        loss = gist_embed.GISTEmbedLoss.__new__(gist_embed.GISTEmbedLoss)
        torch.nn.Module.__init__(loss)
        loss.model, loss.guide = arrays, [torch.tensor(guide) for guide in guides]
        loss.temperature, loss.margin, loss.must_retokenize = 0.1, 0.05, False
        loss.margin_strategy = "relative" if relative else "absolute"
        loss.contrast_anchors = loss.contrast_positives = True
        loss.gather_across_devices = False
        loss.similarity_fct = torch.nn.CosineSimilarity(dim=-1)
        loss.cross_entropy_loss = torch.nn.CrossEntropyLoss()
        return loss([], None)

    def ours(q, d, *n):
        options = {"negatives": n[0], "guide_negatives": guides[2]} if n else {}
        return losses.gist(
            q, d, *guides[:2], temperature=0.1, margin=0.05, relative=relative, **options
        )

    check(ours, reference, (Q, D, E)[: 2 + hard])


def test_matryoshka():
    def reference(*arrays):
        total = 0
        for dim, weight in ((9, 1.0), (4, 0.5)):
            cut = [torch.nn.functional.normalize(a[..., :dim], dim=-1) for a in arrays]
            total = total + weight * MNRL(None).compute_loss_from_embeddings(cut, None)
        return total

    check(losses.matryoshka(losses.info_nce, (9, 4), (1.0, 0.5)), reference, (Q, D))
    with pytest.raises(ValueError, match="exceed the 9 features"):
        losses.matryoshka(losses.info_nce, (10,))(Q, D)


def test_maxsim(monkeypatch):
    """Token vectors with masks, a hard negative for each query; ours has those behind."""
    queries, documents = vectors(4, 3, DIM), vectors(4, 2, 5, DIM)
    q_mask = torch.tensor(np.arange(3) < np.array([3, 2, 1, 3])[:, None])
    d_mask = torch.tensor(np.arange(5) < RANDOM.integers(1, 6, (4, 2, 1)))

    def reference(q, d):
        def padded(model, features, *rest, **options):
            return list(d.unbind(1)), list(d_mask.unbind(1))

        monkeypatch.setattr(late_module, "embed_columns_padded", padded)
        model = lambda features, task: {"token_embeddings": q, "attention_mask": q_mask}  # noqa: E731
        loss = token_losses.MultiVectorMultipleNegativesRankingLoss.__new__(
            token_losses.MultiVectorMultipleNegativesRankingLoss
        )
        torch.nn.Module.__init__(loss)
        loss.model, loss.scale, loss.gather_across_devices = model, 0.5, False
        loss.similarity_fct, loss.mini_batch_size = late_module.colbert_scores, None
        loss.score_mini_batch_size = None
        return loss([{}, {}, {}])

    def ours(q, d, mask=None):
        flat = d.swapaxes(0, 1).reshape(-1, *d.shape[2:])
        tokens = d_mask.numpy().swapaxes(0, 1).reshape(-1, 5)
        return losses.maxsim_info_nce(q, flat, q_mask.numpy(), tokens, scale=0.5)

    check(ours, reference, (queries, documents))
