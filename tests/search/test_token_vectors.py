"""Exact search by MaxSim: over devices, out of files, against the scores of all pairs."""

import jax
import numpy as np
import pyarrow as pa
import pytest

from jaxpool import Embedder
from jaxpool.engine.sharding import make_mesh
from jaxpool.heads.similarity import EMPTY, maxsim
from jaxpool.search import late_interaction, top_k
from jaxpool.search.sources import Documents, token_vectors
from tests.jobs.corpora import run, texts_of, write
from tests.serving import checkpoints

RNG = np.random.default_rng(0)


def token_lists(count, most, least=1):
    return [RNG.normal(size=(RNG.integers(least, most), 8)).astype("f4") for _ in range(count)]


DOCUMENTS, QUERIES = token_lists(300, 17, 5), token_lists(5, 9)
EVERY = np.asarray(maxsim(QUERIES, DOCUMENTS))
ORDER = np.argsort(-EVERY, axis=1, kind="stable")
CHUNKS = {"query_chunk_size": 3, "corpus_chunk_size": 1024}


def same(found, k):
    wanted = ORDER[:, :k]
    np.testing.assert_array_equal(found.indices, wanted)
    scores = np.take_along_axis(EVERY, wanted, axis=1)
    np.testing.assert_allclose(found.scores, scores, rtol=1e-5)


@pytest.mark.parametrize("shards,k,chunks", [(None, 7, {}), (None, 100, CHUNKS), (8, 20, CHUNKS)])
def test_against_all_pairs(shards, k, chunks):
    mesh = make_mesh(1, shards) if shards else None
    same(top_k(QUERIES, DOCUMENTS, k, score="maxsim", mesh=mesh, **chunks), k)


def column(documents, sizes):
    """Token vectors as a job writes them, in record batches of some sizes."""
    flat = np.concatenate(documents).ravel()
    items = pa.FixedSizeListArray.from_arrays(pa.array(flat), documents[0].shape[1])
    ends = np.cumsum([0, *map(len, documents)]).astype(np.int32)
    lists = pa.ListArray.from_arrays(pa.array(ends), items)
    firsts = np.cumsum([0, *sizes])
    return pa.chunked_array([lists[a:b] for a, b in zip(firsts, firsts[1:], strict=False)])


def test_columns_and_files(tmp_path):
    whole = column(DOCUMENTS, [180, 0, 1, 119])
    same(top_k(QUERIES, whole, 7, score="maxsim"), 7)
    paths = [tmp_path / name for name in ("a.arrow", "b.arrow")]
    for path, rows in zip(paths, (slice(0, 128), slice(128, None)), strict=True):
        table = pa.table({"id": range(300)[rows], "tokens": whole[rows]})
        with pa.ipc.new_file(path, table.schema) as writer:
            writer.write_table(table, max_chunksize=70)
    same(top_k(QUERIES, paths, 7, score="maxsim"), 7)
    documents = token_vectors(paths)
    assert isinstance(documents, Documents) and len(documents) == 300
    assert not any(values.flags.owndata for values in documents.values)  # it is the file's memory
    np.testing.assert_array_equal(documents[128], DOCUMENTS[128])
    square = np.stack([d[:1] for d in DOCUMENTS])
    np.save(tmp_path / "square.npy", square)
    found = top_k(QUERIES, tmp_path / "square.npy", 3, score="maxsim")
    best = np.argsort(-np.asarray(maxsim(QUERIES, square)), axis=1, kind="stable")[:, :3]
    np.testing.assert_array_equal(found.indices, best)


@pytest.mark.slow
def test_what_a_job_writes_is_searched(tmp_path):
    texts, model = texts_of(90), checkpoints.embedder(tmp_path / "model")
    embedder = Embedder(str(model), "token_embed", keep=["id"])
    run(embedder, write(tmp_path / "in.jsonl", texts), tmp_path / "out", kind=".arrow")
    tokens = [row["token_embeddings"] for row in embedder([{"id": 0, "text": t} for t in texts])]
    found = top_k(tokens[:3], tmp_path / "out" / "in.arrow", 5, score="maxsim")
    scores = np.asarray(maxsim(tokens[:3], tokens))
    named = np.take_along_axis(scores, found.indices, axis=1)
    np.testing.assert_allclose(named, -np.sort(-scores, axis=1)[:, :5], rtol=1e-5)


@pytest.mark.parametrize("shards", [None, 8])
def test_equal_scores_and_empty_documents(shards):
    mesh = make_mesh(1, shards) if shards else None
    long = np.repeat(DOCUMENTS[0], 3, axis=0)  # another length, the same score
    corpus = [DOCUMENTS[0][:0], long, DOCUMENTS[0], DOCUMENTS[1], long, DOCUMENTS[0]]
    found = top_k(QUERIES[:1], corpus, 6, score="maxsim", mesh=mesh)
    ranks = [row for row in found.indices[0].tolist() if row not in (0, 3)]
    assert ranks == [1, 2, 4, 5] and found.indices[0, -1] == 0 and found.scores[0, -1] == EMPTY


def test_few_programs_for_many_lengths():
    late_interaction.search_block.clear_cache()
    for seed in range(3):
        order = np.random.default_rng(seed).permutation(300)
        top_k(QUERIES, [DOCUMENTS[i] for i in order], 5, score="maxsim", corpus_chunk_size=256)
    lengths = 2  # 8 and 16; of each, the first block, those that are full and a last one
    assert late_interaction.search_block._cache_size() <= 3 * lengths


def test_small_sides_and_bad_ones():
    assert top_k([], DOCUMENTS, score="maxsim").indices.shape == (0, 10)
    assert top_k(QUERIES, [], score="maxsim").indices.shape == (5, 0)
    assert top_k(QUERIES, DOCUMENTS[:2], score="maxsim").indices.shape == (5, 2)
    with pytest.raises(ValueError, match=r"token vectors are \[T, F\] of one F"):
        top_k([q[:, :4] for q in QUERIES], DOCUMENTS, score="maxsim")
    with pytest.raises(ValueError, match=r"token vectors are \[N, T, F\]"):
        top_k(QUERIES, np.zeros((3, 8), "f4"), score="maxsim")
    with pytest.raises(ValueError, match="token vectors are lists of FixedSizeList, got double"):
        top_k(QUERIES, pa.array([1.0]), score="maxsim")


def test_its_scores_have_gradients():
    """Arrays in, arrays out: it is a JAX function like the others."""
    queries = late_interaction.filled(QUERIES, range(5), 8, 8)
    documents = late_interaction.filled(DOCUMENTS[:4], range(4), 4, 64)

    def total(vectors):
        return late_interaction.scores(queries._replace(vectors=vectors), documents, 2).sum()

    assert np.abs(jax.grad(total)(queries.vectors)).sum() > 0
