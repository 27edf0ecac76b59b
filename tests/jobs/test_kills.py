"""Workers of one folder, killed with SIGKILL at random moments: nothing lost, nothing twice."""

import json
import random
import subprocess
import sys
import time

import pytest
from pyarrow import parquet

from tests.jobs.corpora import texts_of, write

FILES, ROWS, WORKERS, KILLS = 20, 5000, 4, 20


def command(toy, source, output, *more):
    options = ("--keep", "id", "--chunk", "512", "--heartbeat", "1", *more)
    files = ("--input", str(source), "--output", str(output))
    return [sys.executable, "-m", "jaxpool.cli", "embed", toy, *files, *options]


def ids_of(folder):
    """The ids of every part, in the order of their files."""
    parts = sorted(folder.glob("*.parquet"))
    return [row for part in parts for row in parquet.read_table(part, columns=["id"])["id"]]


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_twenty_kills_of_four_workers(toy, tmp_path):
    for i in range(FILES):
        write(tmp_path / "in" / f"{i:02}.jsonl", texts_of(ROWS, i), first=i * ROWS)
    begun = time.monotonic()
    subprocess.run(command(toy, tmp_path / "in", tmp_path / "whole"), check=True)
    whole = time.monotonic() - begun
    start = command(toy, tmp_path / "in", tmp_path / "out", "--claim")
    chance = random.Random(0)
    workers = [subprocess.Popen(start) for _ in range(WORKERS)]
    for _ in range(KILLS):
        time.sleep(chance.uniform(0.2, whole / KILLS))
        victim = chance.randrange(WORKERS)
        workers[victim].kill()
        workers[victim].wait()
        workers = [w if w.poll() is None else subprocess.Popen(start) for w in workers]
    unfinished = FILES - len(list((tmp_path / "out").glob("*.parquet")))
    assert all(worker.wait() == 0 for worker in workers)
    done = subprocess.run(start, check=True, capture_output=True, text=True)
    assert unfinished and "in 20 of 20 parts" in done.stderr
    assert ids_of(tmp_path / "out") == ids_of(tmp_path / "whole")
    for part in sorted((tmp_path / "whole").glob("*.parquet")):
        other = parquet.read_table(tmp_path / "out" / part.name)
        assert parquet.read_table(part).equals(other), part.name
    manifests = [tmp_path / name / "_job" / "manifest.json" for name in ("out", "whole")]
    told = [json.loads(manifest.read_text()) for manifest in manifests]
    for name in ("rows", "tokens", "parts", "fingerprint"):
        assert told[0][name] == told[1][name]
    left = [path.name for path in (tmp_path / "out" / "_job" / "chunks").rglob("*")]
    assert not left, left
