"""Retrieval on real text with real models: the ranking of sentence-transformers, and its nDCG@10.

Docstrings of NumPy are the documents, their first lines the queries.
"""

import inspect

import numpy as np
import pytest
from sentence_transformers import SparseEncoder
from sentence_transformers.sparse_encoder.modules import MLMTransformer, SpladePooling

import jaxpool

COUNT = 200
SPLADE = "pkg://cognition/model"


@pytest.fixture(scope="module")
def texts():
    """(queries, documents), the answer to each query at its own place."""
    found = {}
    for name in sorted(dir(np)):
        doc = inspect.getdoc(getattr(np, name)) or ""
        head, _, body = doc.partition("\n\n")
        if callable(getattr(np, name)) and len(head) > 20 and len(body) > 200:
            found[head.replace("\n", " ")] = body[:300]
    queries = list(found)[:COUNT]
    assert len(queries) == COUNT
    return queries, [found[query] for query in queries]


def ndcg(scores: np.ndarray) -> float:
    """nDCG@10 where document i answers query i and no other."""
    ranks = (scores > np.diag(scores)[:, None]).sum(axis=1)
    return float(np.mean(np.where(ranks < 10, 1 / np.log2(ranks + 2), 0)))


def check(ours: np.ndarray, theirs: np.ndarray, least: float) -> None:
    """The same quality, at least `least`, and the same order up to ties of 1e-3."""
    assert ndcg(theirs) > least
    assert abs(ndcg(ours) - ndcg(theirs)) < 1e-3
    ordered = np.take_along_axis(theirs, np.argsort(-ours, axis=1), axis=1)
    assert np.diff(ordered, axis=1).max() < 1e-3


def test_minilm(minilm, reference_minilm, texts):
    ours = [minilm.model.encode(side) for side in texts]
    theirs = [reference_minilm.encode(side) for side in texts]
    check(ours[0] @ ours[1].T, theirs[0] @ theirs[1].T, least=0.5)


@pytest.fixture(scope="module")
def splade():
    llm = jaxpool.LLM(SPLADE)
    folder = str(llm.model.checkpoint.folder)
    modules = [MLMTransformer(folder), SpladePooling("max")]
    return llm, SparseEncoder(modules=modules, device="cpu")


def _sparse(llm, texts):
    limit = {"truncate_prompt_tokens": -1}
    outputs = llm.encode(texts, pooling_task="sparse", tokenization_kwargs=limit, use_tqdm=False)
    return np.stack([output.outputs.data for output in outputs])


def test_splade(splade, texts):
    llm, reference = splade
    ours = [_sparse(llm, side) for side in texts]
    theirs = [reference.encode(side, convert_to_sparse_tensor=False).numpy() for side in texts]
    for mine, wanted in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(mine, wanted, atol=1e-4)
    check(ours[0] @ ours[1].T, theirs[0] @ theirs[1].T, least=0.2)


def test_sparse_weights_name_their_tokens(splade):
    llm, reference = splade
    vector = _sparse(llm, ["hash tables"])[0]
    weights = jaxpool.sparse_weights(vector, llm.get_tokenizer(), 5)
    wanted = reference.decode(reference.encode("hash tables"), top_k=5)
    assert [w.token for w in weights] == [token for token, _ in wanted]
    np.testing.assert_allclose([w.weight for w in weights], [w for _, w in wanted], atol=1e-4)
    assert [w.id for w in weights] == llm.get_tokenizer().convert_tokens_to_ids(
        [w.token for w in weights]
    )
