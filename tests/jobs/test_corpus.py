"""Corpora of files: formats in and out, parts, resume, shards, claims."""

import json
import os

import numpy as np
import pyarrow as pa
import pytest
from pyarrow import parquet

from jaxpool import Embedder
from jaxpool.jobs.claims import Claims, shard_of
from tests.jobs.corpora import Killed, run, texts_of, vectors_of, write


@pytest.mark.parametrize(
    "kind",
    ["txt", "jsonl", "jsonl.gz", "jsonl.zst", "csv", "parquet", "arrow", "feather"],
)
def test_formats_in(kind, embedder, toy, tmp_path):
    texts = texts_of(300)
    source = write(tmp_path / f"in.{kind}", texts)
    keep = ["text"] if kind == "txt" else ["id"]
    told = run(Embedder(toy, keep=keep), source, tmp_path / "out")
    assert told["rows"] == 300 and told["parts"] == 1
    table = parquet.read_table(tmp_path / "out" / "in.parquet")
    assert str(table.schema.field("embedding").type) == "fixed_size_list<element: float>[64]"
    np.testing.assert_allclose(
        table["embedding"].to_pylist(), vectors_of(embedder, texts), atol=1e-6
    )
    wanted = texts if kind == "txt" else list(range(300))
    wanted = list(map(str, wanted)) if kind == "csv" else wanted
    assert table[keep[0]].to_pylist() == wanted


@pytest.mark.parametrize("kind", ["txt", "jsonl", "csv"])
def test_a_byte_order_mark_is_no_text(kind, embedder, toy, tmp_path):
    texts = texts_of(3)
    source = write(tmp_path / f"in.{kind}", texts)
    source.write_bytes(b"\xef\xbb\xbf" + source.read_bytes())
    run(Embedder(toy, keep=["text"]), source, tmp_path / "out")
    table = parquet.read_table(tmp_path / "out" / "in.parquet")
    assert table["text"].to_pylist() == texts


@pytest.mark.parametrize("kind", ["parquet", "npy", "arrow", "jsonl", "lance"])
def test_formats_out(kind, embedder, tmp_path):
    if kind == "lance":
        pytest.importorskip("lance")
    texts = texts_of(150)
    source, output = write(tmp_path / "in.jsonl", texts), tmp_path / f"out.{kind}"
    run(embedder, source, output)
    match kind:
        case "npy":
            found = np.load(output)
        case "jsonl":
            found = [json.loads(line)["embedding"] for line in output.read_text().splitlines()]
        case "arrow":
            table = pa.ipc.open_file(output).read_all()
            found = table["embedding"].to_pylist()
        case "lance":
            import lance

            found = lance.dataset(str(output)).to_table()["embedding"].to_pylist()
        case "parquet":
            table = parquet.read_table(output)
            found = table["embedding"].to_pylist()
    if kind in ("parquet", "arrow"):  # which say of which embedding space they are
        space = embedder.model.fingerprint.encode()
        assert table.schema.metadata[b"jaxpool.fingerprint"] == space
    np.testing.assert_allclose(found, vectors_of(embedder, texts), atol=1e-6)
    assert sorted(p.name for p in tmp_path.iterdir()) == sorted(
        ["in.jsonl", output.name, output.name + ".job"]
    )


def test_numbers_in_npy(cross_encoder, tmp_path):
    source = write(tmp_path / "in.jsonl", texts_of(10))
    run(Embedder(cross_encoder, "reward", keep=[]), source, tmp_path / "out.npy")
    assert np.load(tmp_path / "out.npy").shape == (10,)


def test_folders_and_globs_keep_their_shape(embedder, toy, tmp_path):
    write(tmp_path / "in" / "a.jsonl", texts_of(5))
    write(tmp_path / "in" / "deep" / "er" / "b.csv", texts_of(6))
    (tmp_path / "in" / "notes.md").write_text("not for us")
    told = run(embedder, tmp_path / "in", tmp_path / "in" / "out")
    assert told["parts"] == told["of"] == 2 and told["rows"] == 11
    made = sorted(
        p.relative_to(tmp_path).as_posix() for p in (tmp_path / "in" / "out").rglob("*.parquet")
    )
    assert made == ["in/out/a.parquet", "in/out/deep/er/b.parquet"]
    told = run(embedder, tmp_path / "in" / "*.jsonl", tmp_path / "glob")
    assert told["rows"] == 5 and (tmp_path / "glob" / "a.parquet").is_file()
    # The whole folder reads as one data set: what a job keeps beside it is hidden.
    from pyarrow import dataset

    assert dataset.dataset(tmp_path / "in" / "out", format="parquet").count_rows() == 11


def test_other_file_systems(embedder, tmp_path):
    import fsspec

    fs = fsspec.filesystem("memory")
    for name, count in (("a", 70), ("b", 80)):
        fs.pipe_file(f"/in/{name}.jsonl", write(tmp_path / "x.jsonl", texts_of(count)).read_bytes())
    told = run(embedder, "memory://in/*.jsonl", "memory://out", claim=True)
    assert told["rows"] == 150 and told["parts"] == 2
    with fs.open("/out/b.parquet") as file:
        found = parquet.read_table(file)["embedding"].to_pylist()
    np.testing.assert_allclose(found, vectors_of(embedder, texts_of(80)), atol=1e-6)
    again = run(embedder, "memory://in/*.jsonl", "memory://out", claim=True)
    assert "0 rows," in again["line"]


def test_an_interrupted_part_goes_on_at_its_first_missing_chunk(toy, tmp_path):
    texts = texts_of(400)
    source = write(tmp_path / "in.parquet", texts)
    seen = []

    class Dying(Embedder):
        def finish(self, work):
            if len(seen) == 3:
                raise Killed
            seen.append(work.rows.count)
            return super().finish(work)

    with pytest.raises(Killed):
        run(Dying(toy, keep=["id"]), source, tmp_path / "out")
    assert not (tmp_path / "out" / "in.parquet").exists()

    class Counting(Embedder):
        def finish(self, work):
            seen.append(work.rows.count)
            return super().finish(work)

    told = run(Counting(toy, keep=["id"]), source, tmp_path / "out")
    assert seen == [64, 64, 64, 64, 64, 64, 16]  # each once, in two runs
    run(Embedder(toy, keep=["id"]), source, tmp_path / "whole")
    parts = [parquet.read_table(tmp_path / name / "in.parquet") for name in ("out", "whole")]
    assert parts[0].equals(parts[1]) and parts[0]["id"].to_pylist() == list(range(400))
    manifest = json.loads((tmp_path / "out" / "_job" / "manifest.json").read_text())
    whole = json.loads((tmp_path / "whole" / "_job" / "manifest.json").read_text())
    assert manifest["rows"] == told["rows"] == 400 and manifest["tokens"] == whole["tokens"] > 400
    assert manifest["fingerprint"] == Embedder(toy).model.fingerprint
    assert manifest["files"][0]["rows"] == 400
    assert sorted(os.listdir(tmp_path / "out" / "_job")) == sorted(
        ["chunks", "job.json", "manifest.json", "parts", "schema.arrow", "unfinished"]
    )
    assert not os.listdir(tmp_path / "out" / "_job" / "unfinished")


def test_shards_make_up_the_whole(embedder, tmp_path):
    for i in range(5):
        write(tmp_path / "in" / f"{i}.jsonl", texts_of(3, i))
    for i in range(3):
        told = run(embedder, tmp_path / "in", tmp_path / "out", shard=(i, 3))
        assert told["parts"] == [2, 4, 5][i] and told["of"] == 5


@pytest.mark.parametrize(
    "text,environment,wanted",
    [
        ("2/5", {}, (2, 5)),
        ("auto", {"RANK": "1", "WORLD_SIZE": "4"}, (1, 4)),
        ("auto/8", {"JOB_COMPLETION_INDEX": "7"}, (7, 8)),
        ("auto", {"TPU_WORKER_ID": "1", "TPU_WORKER_HOSTNAMES": "a,b,c"}, (1, 3)),
        ("auto", {"TPU_WORKER_ID": "0", "TPU_WORKER_HOSTNAMES": "localhost"}, (0, 1)),
        ("5/5", {}, "shard 5 of 5"),
        ("auto", {}, "none of RANK"),
        ("auto", {"JOB_COMPLETION_INDEX": "7"}, "use auto/n"),
        ("3", {}, "wants i/n"),
    ],
)
def test_shards_are_named(text, environment, wanted, monkeypatch):
    for name in ("RANK", "SLURM_PROCID", "JOB_COMPLETION_INDEX", "TPU_WORKER_ID"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    if isinstance(wanted, str):
        with pytest.raises(ValueError, match=wanted):
            shard_of(text)
    else:
        assert shard_of(text) == wanted


def test_claims_are_exclusive_and_inherited(tmp_path):
    import fsspec

    fs = fsspec.filesystem("file")
    one, two = (Claims(fs, str(tmp_path)) for _ in range(2))
    assert one.take("a/b") and not two.take("a/b")
    one.release("a/b")
    assert two.take("a/b")
    claim = tmp_path / "claims" / "a" / "b"
    told = json.loads(claim.read_text())
    for changes, free in [
        ({"time": told["time"] - 1000}, True),  # silent for long
        ({"host": "elsewhere", "pid": 1}, False),
        ({"pid": 2**22 + 1}, True),  # no such process
        ({"process": "before"}, True),  # this number, in another life
    ]:
        claim.write_text(json.dumps(told | changes))
        assert Claims(fs, str(tmp_path)).take("a/b") is free
    assert sorted(os.listdir(claim.parent)) == ["b"]
