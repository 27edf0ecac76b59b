"""Corpora in and out of buckets."""

import json
import os
import subprocess
import sys
import time

import numpy as np
import pytest
from pyarrow import parquet

from jaxpool import Embedder
from jaxpool.jobs.claims import Claims
from jaxpool.jobs.files import create
from tests.jobs.corpora import Killed, run, texts_of, vectors_of, write

pytestmark = [pytest.mark.slow, pytest.mark.timeout(400), pytest.mark.filterwarnings("ignore")]
FILES, ROWS = 4, 300


@pytest.fixture
def bucket(bucket, tmp_path):
    """A bucket with texts in `in/`."""
    for i in range(FILES):
        file = write(tmp_path / f"{i}.parquet", texts_of(ROWS, i), first=i * ROWS)
        bucket.fs.put_file(str(file), f"{bucket.name}/in/{i}.parquet")
    return bucket


def rows_of(bucket, folder):
    """The ids and vectors of every part."""
    ids, vectors = [], []
    for i in range(FILES):
        with bucket.fs.open(f"{bucket.name}/{folder}/{i}.parquet") as part:
            table = parquet.read_table(part)
        ids += table["id"].to_pylist()
        vectors += table["embedding"].to_pylist()
    return ids, np.array(vectors, np.float32)


def whole(bucket, toy, folder):
    """Check that an output has every row once, and that its manifest says so."""
    (ids, vectors), embedder = rows_of(bucket, folder), Embedder(toy, keep=[])
    assert ids == list(range(FILES * ROWS))
    texts = [text for i in range(FILES) for text in texts_of(ROWS, i)]
    np.testing.assert_allclose(vectors, vectors_of(embedder, texts), atol=1e-6)
    manifest = json.loads(bucket.fs.cat_file(f"{bucket.name}/{folder}/_job/manifest.json"))
    assert manifest["rows"] == FILES * ROWS and manifest["parts"] == FILES
    assert manifest["fingerprint"] == embedder.model.fingerprint
    bucket.fs.invalidate_cache()
    left = [path for path in bucket.fs.find(f"{bucket.name}/{folder}/_job") if "unfinished" in path]
    assert not left


def test_a_job_and_its_continuation(bucket, toy):
    seen = []

    class Dying(Embedder):
        def finish(self, work):
            if len(seen) == 7:
                raise Killed
            seen.append(work.rows.count)
            return super().finish(work)

    files, out = f"{bucket.url}/in/*.parquet", f"{bucket.url}/out"
    with pytest.raises(Killed):
        run(Dying(toy, keep=["id"]), files, out)
    embedder = Embedder(toy, keep=["id"])
    told = run(embedder, files, out)
    assert told["rows"] == FILES * ROWS and f" {FILES * ROWS - sum(seen):,} rows" in told["line"]
    whole(bucket, toy, "out")
    assert " 0 rows," in run(embedder, files, out)["line"]
    with pytest.raises(ValueError, match="another job: precision is 'float32' there"):
        run(Embedder(toy, keep=["id"], precision="int8"), files, out)


def test_a_claim_is_one_workers(bucket):
    path = f"{bucket.name}/x"
    assert create(bucket.fs, path, b"1") and not create(bucket.fs, path, b"2")
    assert bucket.fs.cat_file(path) == b"1"
    one, two = (Claims(bucket.fs, f"{bucket.name}/job") for _ in range(2))
    assert one.take("a") and not two.take("a")
    one.release("a")
    assert two.take("a")
    told = json.loads(bucket.fs.cat_file(f"{bucket.name}/job/claims/a"))
    bucket.fs.pipe_file(f"{bucket.name}/job/claims/a", json.dumps(told | {"time": 0}).encode())
    assert Claims(bucket.fs, f"{bucket.name}/job").take("a")


def test_a_killed_worker_beside_others(bucket, toy):
    command = [sys.executable, "-m", "jaxpool.cli", "embed", toy, "--keep", "id", "--claim"]
    command += ["--input", f"{bucket.url}/in/", "--output", f"{bucket.url}/out", "--chunk", "20"]
    environment = os.environ | bucket.environment
    victim = subprocess.Popen(command, env=environment)
    while not bucket.fs.glob(f"{bucket.name}/out/_job/chunks/*/000003") and victim.poll() is None:
        time.sleep(0.05)
        bucket.fs.invalidate_cache()
    victim.kill()
    assert victim.wait() < 0
    workers = [subprocess.Popen(command, env=environment) for _ in range(2)]
    assert all(worker.wait() == 0 for worker in workers)
    whole(bucket, toy, "out")
