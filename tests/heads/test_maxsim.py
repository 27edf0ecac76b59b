"""`jaxpool.maxsim` against sentence-transformers' own."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from sentence_transformers.util import similarity

import jaxpool
from jaxpool.engine import planner
from jaxpool.engine.batch import Request, fill
from jaxpool.heads import queries
from jaxpool.heads.similarity import EMPTY, MaxSim, maxsim_pairwise
from jaxpool.heads.steps import run


def _vectors(lengths, seed, dim=8):
    rng = np.random.default_rng(seed)
    made = [rng.normal(size=(n, dim)).astype(np.float32) for n in lengths]
    return [v / np.linalg.norm(v, axis=-1, keepdims=True) for v in made]


QUERIES, DOCUMENTS = _vectors([3, 7, 5], 0), _vectors([4, 9, 2, 17], 1)


def _torch(vectors):
    return [torch.from_numpy(v) for v in vectors]


def test_every_query_with_every_document():
    ours = jaxpool.maxsim(QUERIES, DOCUMENTS)
    np.testing.assert_allclose(
        ours, similarity.maxsim(_torch(QUERIES), _torch(DOCUMENTS)), atol=1e-5
    )


def test_pairs():
    ours = jaxpool.maxsim_pairwise(QUERIES, DOCUMENTS[:3])
    theirs = similarity.maxsim_pairwise(_torch(QUERIES), _torch(DOCUMENTS[:3]))
    np.testing.assert_allclose(ours, theirs, atol=1e-5)
    same = np.stack([QUERIES[0]] * 3)
    mixed = jaxpool.maxsim_pairwise(same, DOCUMENTS[:3])
    np.testing.assert_allclose(mixed, jaxpool.maxsim(QUERIES[0], DOCUMENTS[:3])[0], atol=1e-5)


def test_masks_and_chunks(monkeypatch):
    monkeypatch.setattr("jaxpool.heads.similarity.AT_ONCE", 100)
    q, d = np.stack(_vectors([6] * 3, 2)), np.stack(_vectors([9] * 5, 3))
    rng = np.random.default_rng(4)
    q_mask, d_mask = rng.random((3, 6)) < 0.7, rng.random((5, 9)) < 0.7
    q_mask[:, 0] = d_mask[:, 0] = True
    given = [torch.from_numpy(x) for x in (q, d, q_mask, d_mask)]
    np.testing.assert_allclose(
        jaxpool.maxsim(q, d, q_mask, d_mask), similarity.maxsim(*given), atol=1e-5
    )
    pairs = similarity.maxsim_pairwise(given[0], given[1][:3], given[2], given[3][:3])
    ours = jaxpool.maxsim_pairwise(q, d[:3], q_mask, d_mask[:3])
    np.testing.assert_allclose(ours, pairs, atol=1e-5)


def test_a_document_without_tokens_ranks_last():
    scores = jaxpool.maxsim(QUERIES[0], [DOCUMENTS[0], DOCUMENTS[0][:0]])
    theirs = similarity.maxsim(_torch(QUERIES[:1]), _torch([DOCUMENTS[0], DOCUMENTS[0][:0]]))
    np.testing.assert_allclose(scores, theirs, rtol=1e-5)


def test_it_trains():
    """The gradient of a query token is the sum of the document tokens it chose."""
    q, d = jnp.asarray(QUERIES[0]), jnp.asarray(DOCUMENTS[1])
    slope = jax.jit(jax.grad(lambda q: jaxpool.maxsim(q, d)[0, 0]))(q)
    np.testing.assert_allclose(slope, d[np.argmax(q @ d.T, axis=1)], atol=1e-6)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: jaxpool.maxsim([], DOCUMENTS), "at least one query and one document"),
        (lambda: jaxpool.maxsim(np.zeros(3), DOCUMENTS), r"\[N, T, D\] or \[T, D\], got \(3,\)"),
        (lambda: jaxpool.maxsim_pairwise(QUERIES, DOCUMENTS), "3 queries but 4 documents"),
        (lambda: jaxpool.maxsim(QUERIES, DOCUMENTS, [True]), "not with a list"),
    ],
)
def test_errors(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_a_batch_compares_its_documents_with_their_queries():
    """`MaxSim` on packed rows, with long queries and documents of which not all counts."""
    several, vectors = _vectors([5, 32, 33, 100], 2), _vectors([1, 300, 64, 31, 8], 3)
    asked = [several[i] for i in (0, 1, 1, 2, 3)]
    counted = [None, np.arange(3, 250, 2), None, np.array([], int), None]
    documents = [
        Request(np.arange(len(own)), query=query, counted=keep)
        for own, query, keep in zip(vectors, asked, counted, strict=True)
    ]
    (plan,) = planner.plan([len(d.ids) for d in documents], (512,), 1024)
    batch, controls = fill(plan, documents)
    hidden = np.zeros((*batch.tokens.shape, 8), np.float32)
    for request, row, start in zip(plan.request, plan.row, plan.start, strict=True):
        hidden[row, start : start + len(vectors[request])] = vectors[request]
    compare = jax.jit(partial(run, (MaxSim(),), {}))
    out = compare(hidden, batch, controls)
    got = np.zeros(len(documents))
    got[plan.request] = out[plan.row, plan.segment - 1, 0]
    kept = [v if keep is None else v[keep] for v, keep in zip(vectors, counted, strict=True)]
    np.testing.assert_allclose(got, maxsim_pairwise(asked, kept), rtol=1e-5)
    assert got[3] == EMPTY


def test_queries_beyond_a_batch():
    """Runs of requests whose queries fit, and a query longer than all slots cut in pieces."""
    asked = _vectors([40, 32 * 31, 5, 33], 4)
    requests = [Request(np.arange(2), query=asked[i]) for i in (0, 0, 1, 2, 2, 3)]
    assert [run.tolist() for run in queries.groups(requests)] == [[0, 1], [2, 3, 4], [5]]
    pieces = queries.cut(np.ones((queries.MOST + 1, 3), np.float32), 4)
    assert [piece.shape for piece in pieces] == [(queries.MOST, 4), (1, 4)]
    assert not pieces[0][:, 3].any() and pieces[0][:, :3].all()
