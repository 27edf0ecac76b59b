"""Corpora larger than the memory that a process may have are searched where they lie."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

ROOT = Path(__file__).parents[2]
LIMIT = 1_200 << 20  # bytes of memory of its own; a file's pages, which are mapped, do not count
SEARCH = """
import resource
import sys

import numpy as np

from jaxpool.search import top_k

kind, path, limit, target = sys.argv[1:]
shape = (4, 8, 64) if kind == "maxsim" else (4, 64)
queries = np.random.default_rng(1).standard_normal(shape, np.float32)
top_k(queries, queries, 2, score=kind)  # what is loaded once
resource.setrlimit(resource.RLIMIT_DATA, (int(limit), int(limit)))
try:
    np.ones(int(limit), np.uint8)
    raise SystemExit("the limit does not hold")
except MemoryError:
    pass
found = top_k(queries, path, 5, score=kind)
np.save(target, found.indices)
"""


def searched(kind, path, folder):
    target = folder / "found.npy"
    command = [sys.executable, "-c", SEARCH, kind, str(path), str(LIMIT), str(target)]
    environment = os.environ | {"PYTHONPATH": str(ROOT), "XLA_FLAGS": ""}
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr[-3000:]
    return np.load(target)


def asked(shape):
    return np.random.default_rng(1).standard_normal(shape, np.float32)


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.parametrize("kind", ["dot", "cosine"])
def test_a_file_of_vectors(kind, tmp_path):
    rows = (2 * LIMIT) // (64 * 4)
    path = tmp_path / "corpus.npy"
    # A file of zeros, which take no room on the disk, but for what is near the queries.
    corpus = np.lib.format.open_memmap(path, "w+", np.float32, (rows, 64))
    places = np.random.default_rng(2).choice(rows, (4, 5), replace=False)
    for query, own in zip(asked((4, 64)), places, strict=True):
        corpus[own] = query + 0.1 * np.arange(1, 6)[:, None] * asked((5, 64))
    corpus.flush()
    near = np.stack([corpus[own] for own in places])
    scores = np.einsum("qf,qkf->qk", asked((4, 64)), near)
    scores = scores if kind == "dot" else scores / np.linalg.norm(near, axis=-1)
    wanted = np.take_along_axis(places, np.argsort(-scores, axis=1), axis=1)
    del corpus
    np.testing.assert_array_equal(searched(kind, path, tmp_path), wanted)


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_a_file_of_token_vectors(tmp_path):
    path, count = tmp_path / "corpus.arrow", 4096
    lengths = np.random.default_rng(0).integers(1, 30, count)
    ends = pa.array(np.cumsum([0, *lengths]).astype(np.int32))
    field = [("tokens", pa.list_(pa.list_(pa.float32(), 64)))]
    rows, written = 0, 0
    with pa.ipc.new_file(path, pa.schema(field)) as writer:
        while written < 1.5 * LIMIT:
            values = np.random.default_rng(rows).standard_normal((lengths.sum(), 64), np.float32)
            if rows:
                values *= 0.1  # the first batch has the nearest documents
            else:
                first = np.split(values, np.cumsum(lengths)[:-1])
            items = pa.FixedSizeListArray.from_arrays(pa.array(values.ravel()), 64)
            writer.write_batch(
                pa.record_batch([pa.ListArray.from_arrays(ends, items)], names=["tokens"])
            )
            rows, written = rows + count, written + values.nbytes
    scores = [[(q @ d.T).max(axis=1).sum() for d in first] for q in asked((4, 8, 64))]
    wanted = np.argsort(-np.array(scores), axis=1)[:, :5]
    np.testing.assert_array_equal(searched("maxsim", path, tmp_path), wanted)
