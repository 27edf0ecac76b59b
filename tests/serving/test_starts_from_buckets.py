"""Servers whose model, cache and compiled programs lie in a bucket."""

import signal
import subprocess
import sys
import time
from pathlib import Path

import httpx
import pytest

pytestmark = [pytest.mark.slow, pytest.mark.timeout(400), pytest.mark.filterwarnings("ignore")]
OPTIONS = ("--max-model-len", "16", "--dtype", "float32")


@pytest.fixture
def model(bucket, folders, monkeypatch, tmp_path):
    """The URL of a small model; the cache of programs is in its bucket, too."""
    folder = Path(folders("mat"))
    for file in (path for path in folder.rglob("*") if path.is_file()):
        bucket.fs.put_file(str(file), f"{bucket.name}/model/{file.relative_to(folder).as_posix()}")
    monkeypatch.setenv("JAXPOOL_CACHE", f"{bucket.url}/cache")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))  # for the copy of the model
    monkeypatch.setenv("JAX_EXPLAIN_CACHE_MISSES", "1")
    return f"{bucket.url}/model"


@pytest.fixture
def serve(servers_process):
    """Serve a model until its task is compiled; its answer, its metrics and its log."""

    def once(model, *options):
        given = (*OPTIONS, *options, "--warmup", "some", "--served-model-name", "m")
        server = servers_process(*given, model=model)
        while "programs ready" not in server.log.read_text():
            time.sleep(0.1)
        answer = httpx.post(server.url + "/v1/embeddings", json={"input": "a cat"}).json()
        metrics = httpx.get(server.url + "/metrics").text
        server.process.send_signal(signal.SIGTERM)
        assert server.process.wait(60) == 0
        return answer["data"][0]["embedding"], metrics, server.log.read_text()

    return once


def test_the_second_start_compiles_nothing(bucket, model, serve):
    missed = "PERSISTENT COMPILATION CACHE MISS"
    first, _, log = serve(model)
    assert missed in log and "Error" not in log
    bucket.fs.invalidate_cache()
    kept = bucket.fs.find(f"{bucket.name}/cache")
    assert log.count(missed) == len(kept)
    second, _, log = serve(model)
    assert missed not in log and second == first
    assert "fsspec" not in log
    bucket.fs.invalidate_cache()
    assert bucket.fs.find(f"{bucket.name}/cache") == kept


def test_compiled_programs_are_loaded(bucket, model, serve):
    made = (sys.executable, "-m", "jaxpool.cli", "compile", model)
    subprocess.run([*made, "--output", f"{bucket.url}/compiled", *OPTIONS], check=True)
    _, metrics, _ = serve(model, "--compiled", f"{bucket.url}/compiled")
    assert 'jaxpool:compilations{engine="0",model_name="m"} 0.0' in metrics
