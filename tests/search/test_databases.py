"""The lines of docs/guides/corpora.md, each on its database, against exact search."""

import numpy as np
import pyarrow as pa
import pytest

from jaxpool.search import top_k

RNG = np.random.default_rng(0)
VECTORS = RNG.normal(size=(300, 16)).astype(np.float32)
VECTORS /= np.linalg.norm(VECTORS, axis=1, keepdims=True)
WANTED = top_k(VECTORS[:3], VECTORS, 5).indices.tolist()
pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]


def test_lancedb(tmp_path):
    lancedb = pytest.importorskip("lancedb")
    column = pa.FixedSizeListArray.from_arrays(pa.array(VECTORS.ravel()), 16)
    part = pa.table({"id": range(300), "embedding": column})
    table = lancedb.connect(tmp_path).create_table("t", part)
    for query, rows in zip(VECTORS, WANTED, strict=False):
        found = table.search(query).distance_type("cosine").limit(5).to_list()
        assert [row["id"] for row in found] == rows


def test_faiss():
    faiss = pytest.importorskip("faiss")
    index = faiss.IndexFlatIP(VECTORS.shape[1])
    index.add(VECTORS)
    assert index.search(VECTORS[:3], 5)[1].tolist() == WANTED


def test_usearch():
    usearch = pytest.importorskip("usearch.index")
    index = usearch.Index(ndim=VECTORS.shape[1], metric="cos", dtype="f32")
    index.add(np.arange(len(VECTORS)), VECTORS)
    assert index.search(VECTORS[:3], 5, exact=True).keys.tolist() == WANTED


def test_qdrant():
    client = pytest.importorskip("qdrant_client")
    store = client.QdrantClient(":memory:")
    size = client.models.VectorParams(size=16, distance=client.models.Distance.COSINE)
    store.create_collection("t", vectors_config=size)
    store.upload_collection("t", vectors=VECTORS, ids=range(len(VECTORS)))
    for query, rows in zip(VECTORS, WANTED, strict=False):
        found = store.query_points("t", query=query.tolist(), limit=5).points
        assert [point.id for point in found] == rows


def test_pgvector(tmp_path):
    """On a PostgreSQL that comes as a wheel, extension and all."""
    psycopg, server = pytest.importorskip("psycopg"), pytest.importorskip("pgserver")
    client = pytest.importorskip("pgvector.psycopg")
    database = server.get_server(tmp_path / "data")
    try:
        with psycopg.connect(database.get_uri(), autocommit=True) as db:
            db.execute("CREATE EXTENSION vector")
            client.register_vector(db)
            db.execute("CREATE TABLE t (id bigint PRIMARY KEY, embedding vector(16))")
            with db.cursor().copy("COPY t FROM STDIN WITH (FORMAT BINARY)") as copy:
                copy.set_types(["int8", "vector"])
                for row in zip(range(len(VECTORS)), VECTORS, strict=True):
                    copy.write_row(row)
            nearest = "SELECT id FROM t ORDER BY embedding <=> %s LIMIT 5"
            for query, rows in zip(VECTORS, WANTED, strict=False):
                assert [id for (id,) in db.execute(nearest, (query,)).fetchall()] == rows
    finally:
        database.cleanup()
