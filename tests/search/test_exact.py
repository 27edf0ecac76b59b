"""Exact search against NumPy, sentence-transformers and FAISS."""

import jax
import numpy as np
import pyarrow as pa
import pytest

from jaxpool.engine.sharding import make_mesh
from jaxpool.search import exact, program, rescore, screen, semantic_search, top_k
from jaxpool.search.sources import vectors

RNG = np.random.default_rng(0)
CORPUS = RNG.normal(size=(5003, 24)).astype(np.float32) * RNG.uniform(0.5, 2, (5003, 1)).astype(
    "f4"
)
QUERIES = RNG.normal(size=(37, 24)).astype(np.float32)
CHUNKS = {"query_chunk_size": 16, "corpus_chunk_size": 2048}


def best(scores, k):
    order = np.argsort(-scores, axis=1, kind="stable")[:, :k]
    return np.take_along_axis(scores, order, axis=1), order


def unit(x):
    return x / np.linalg.norm(x, axis=1, keepdims=True)


@pytest.mark.parametrize("score", ["cosine", "dot"])
@pytest.mark.parametrize("k,chunks", [(10, {}), (200, CHUNKS)])
def test_against_numpy(score, k, chunks):
    a, b = (unit(QUERIES), unit(CORPUS)) if score == "cosine" else (QUERIES, CORPUS)
    scores, rows = best(a @ b.T, k)
    found = top_k(QUERIES, CORPUS, k, score=score, **chunks)
    np.testing.assert_allclose(found.scores, scores, atol=1e-5)
    # The last bits of two scores may change places, and nothing else.
    named = np.take_along_axis(a @ b.T, found.indices, axis=1)
    np.testing.assert_allclose(named, scores, atol=1e-5)
    assert all(len(set(row)) == k for row in found.indices.tolist())
    if k == 10:
        np.testing.assert_array_equal(found.indices, rows)


@pytest.mark.parametrize("shards", [3, 8])
@pytest.mark.parametrize("score", ["cosine", "dot", "hamming"])
def test_a_corpus_over_devices(shards, score):
    queries, corpus = QUERIES, CORPUS
    if score == "hamming":
        queries, corpus = (np.packbits(x > 0, axis=1) for x in (queries, corpus))
    mesh = make_mesh(1, shards)
    wanted = top_k(queries, corpus, 20, score=score)
    found = top_k(queries, corpus, 20, score=score, mesh=mesh, **CHUNKS)
    np.testing.assert_allclose(found.scores, wanted.scores, atol=1e-5)
    np.testing.assert_array_equal(found.indices, wanted.indices)


def test_hamming_counts_bits_and_keeps_the_first_of_equal_ones():
    a, b = (np.packbits(x > 0, axis=1) for x in (QUERIES, CORPUS))
    differ = np.bitwise_count(a[:, None] ^ b[None]).sum(axis=-1).astype(np.float32)
    scores, rows = best(-differ, 50)  # 24 bits: most of these are ties
    found = top_k(a, b, 50, score="hamming", **CHUNKS)
    np.testing.assert_array_equal(found.scores, scores)
    np.testing.assert_array_equal(found.indices, rows)


def test_rescoring_restores_the_order_of_floats(tmp_path):
    np.save(tmp_path / "floats.npy", CORPUS)
    a, b = (np.packbits(x > 0, axis=1) for x in (QUERIES, CORPUS))
    wanted = top_k(QUERIES, CORPUS, 10)
    every = top_k(a, b, len(CORPUS), score="hamming")
    found = rescore(every, QUERIES, str(tmp_path / "floats.npy"), 10)
    np.testing.assert_array_equal(found.indices, wanted.indices)
    np.testing.assert_allclose(found.scores, wanted.scores, atol=1e-6)
    few = rescore(top_k(a, b, 400, score="hamming"), QUERIES, CORPUS, 10)
    bits = top_k(a, b, 10, score="hamming")
    recall = [
        np.mean([np.isin(w, r).mean() for w, r in zip(wanted.indices, one.indices, strict=True)])
        for one in (few, bits)
    ]
    assert recall[0] > 0.75 > 0.4 > recall[1]


@pytest.mark.parametrize("dtype", [np.float16, np.int8])
def test_files_columns_and_other_dtypes(dtype, tmp_path):
    corpus = np.clip(CORPUS * 30, -127, 127).astype(dtype)
    np.save(tmp_path / "corpus.npy", corpus)
    wanted = top_k(QUERIES, corpus.astype(np.float32), 10)
    column = pa.FixedSizeListArray.from_arrays(pa.array(corpus.ravel()), corpus.shape[1])
    for given in (
        corpus,
        tmp_path / "corpus.npy",
        column,
        pa.chunked_array([column[:9], column[9:9], column[9:]]),
        [tmp_path / "corpus.npy"],
    ):
        found = top_k(QUERIES, given, 10, **CHUNKS)
        np.testing.assert_array_equal(found.indices, wanted.indices)


def test_parts_of_a_job_are_one_corpus(tmp_path):
    paths = [tmp_path / f"{i}.npy" for i in range(3)]
    for path, rows in zip(paths, np.split(CORPUS, [700, 2900]), strict=True):
        np.save(path, rows)
    for k, chunks in ((10, CHUNKS), (200, {})):
        found, wanted = top_k(QUERIES, paths, k, **chunks), top_k(QUERIES, CORPUS, k, **chunks)
        np.testing.assert_array_equal(found.indices, wanted.indices)
    few = rescore(wanted, QUERIES, paths, 10)
    np.testing.assert_array_equal(few.indices, wanted.indices[:, :10])
    joined = vectors(paths)
    for rows in (slice(0, 0), slice(690, 2950), slice(5003, 6000), [2899, 0, 700], 5002):
        np.testing.assert_array_equal(joined[rows], CORPUS[rows])
    np.save(paths[1], CORPUS[:, :9])
    with pytest.raises(ValueError, match="parts differ in features or dtype"):
        top_k(QUERIES, paths)


def test_against_sentence_transformers():
    from sentence_transformers import util

    wanted = util.semantic_search(QUERIES, CORPUS, top_k=5)
    found = semantic_search(QUERIES, CORPUS, top_k=5)
    for a, b in zip(found, wanted, strict=True):
        assert [hit["corpus_id"] for hit in a] == [hit["corpus_id"] for hit in b]
        np.testing.assert_allclose([h["score"] for h in a], [h["score"] for h in b], atol=1e-5)
    assert len(semantic_search(QUERIES[0], CORPUS)) == 1


def test_against_faiss():
    faiss = pytest.importorskip("faiss")
    index = faiss.IndexFlatIP(CORPUS.shape[1])
    index.add(CORPUS)
    scores, rows = index.search(QUERIES, 10)
    found = top_k(QUERIES, CORPUS, 10, score="dot")
    np.testing.assert_allclose(found.scores, scores, atol=1e-4)
    np.testing.assert_array_equal(found.indices, rows)


def test_small_and_empty_sides():
    found = top_k(QUERIES, CORPUS[:3], 10)
    assert found.indices.shape == (37, 3) and sorted(found.indices[0]) == [0, 1, 2]
    assert top_k(QUERIES[:0], CORPUS).indices.shape == (0, 10)
    assert top_k(QUERIES, CORPUS[:0]).indices.shape == (37, 0)


def test_one_program_for_all_blocks():
    top_k(QUERIES[:5], CORPUS[:3000], 3, corpus_chunk_size=1024)
    before = program.search_block._cache_size()
    top_k(QUERIES[:5] + 1, CORPUS[:4500], 3, corpus_chunk_size=1024)
    assert program.search_block._cache_size() == before


@pytest.mark.parametrize(
    "arguments,options,message",
    [
        ((QUERIES, CORPUS[:, :9]), {}, "queries have 24 features and the corpus 9"),
        ((QUERIES, CORPUS), {"score": "l2"}, "score must be one of"),
        ((QUERIES, CORPUS), {"score": "hamming"}, "hamming compares bits"),
        ((QUERIES, CORPUS), {"k": 0}, "k must be at least 1"),
        ((QUERIES[0], CORPUS), {}, "vectors must be"),
        ((QUERIES, pa.array([None, [1.0]], pa.list_(pa.float32(), 1))), {}, "1 of the vectors are"),
    ],
)
def test_bad_arguments_are_named(arguments, options, message):
    with pytest.raises(ValueError, match=message):
        top_k(*arguments, **options)


def test_selection_is_exact_under_ties():
    scores = RNG.integers(0, 4, (50, 1024)).astype(np.float32)
    for k in (1, 7, 40):
        found = jax.jit(program.select, static_argnums=1)(scores, k)
        wanted = best(scores, k)
        np.testing.assert_array_equal(found[0], wanted[0])
        np.testing.assert_array_equal(found[1], wanted[1])


@pytest.fixture
def screened(monkeypatch):
    """Two passes for a small corpus, in several blocks; how many queries go the long way."""
    long, nearest = [], exact._nearest
    monkeypatch.setattr(screen, "LEAST", 1)
    monkeypatch.setattr(screen, "ROWS", {"cpu": 512})
    monkeypatch.setattr(screen, "SELECTED", 1024)
    monkeypatch.setattr(program, "TILES", {"cpu": 256})
    monkeypatch.setattr(
        exact, "_nearest", lambda asked, *rest: long.append(len(asked)) or nearest(asked, *rest)
    )
    return long


@pytest.mark.parametrize("score", ["cosine", "dot"])
@pytest.mark.parametrize("dtype", [np.float32, np.float16, np.int8])
@pytest.mark.parametrize("count", [5003, 900, 7])
def test_two_passes_find_the_same(score, dtype, count, screened):
    corpus = np.clip(CORPUS[:count] * 30, -127, 127).astype(dtype)
    a, b = QUERIES, corpus.astype(np.float32)
    scores, rows = best(a @ b.T if score == "dot" else unit(a) @ unit(b).T, 10)
    found = top_k(a, corpus, 10, score=score, query_chunk_size=16)
    np.testing.assert_allclose(found.scores, scores, rtol=1e-5, atol=1e-6 * np.abs(scores).max())
    np.testing.assert_array_equal(found.indices, rows)
    assert sum(screened) < len(QUERIES) // 2


def test_bounds_are_bounds():
    for score in ("cosine", "dot"):
        asked = program.prepared(QUERIES * 7, score)
        above = screen.bounds(asked, CORPUS, score)
        true = np.asarray(asked, np.float64) @ CORPUS.T.astype(np.float64)
        true = true if score == "dot" else true / np.linalg.norm(CORPUS, axis=1)
        assert (np.asarray(above) >= true).all()


def test_many_equal_rows_go_the_long_way(screened):
    corpus = np.concatenate([np.repeat(CORPUS[:1], 3000, axis=0), CORPUS[1:]])
    asked = np.concatenate([CORPUS[:1], QUERIES[:3]])
    found = top_k(asked, corpus, 5)
    assert found.indices[0].tolist() == [0, 1, 2, 3, 4] and screened and screened[0] < 4
    wanted = best(unit(asked) @ unit(corpus).T, 5)[0]
    np.testing.assert_allclose(found.scores, wanted, atol=1e-5)
