"""What a corpus refuses, in one line each; bad rows, empty files, sources that change."""

import json
import sys

import numpy as np
import pyarrow as pa
import pytest
from pyarrow import parquet

from jaxpool import Embedder
from jaxpool.cli import main
from tests.jobs.corpora import Killed, run, texts_of, vectors_of, write


def test_bad_rows(toy, tmp_path):
    source = tmp_path / "in.jsonl"
    rows = [{"id": i, "text": text} for i, text in enumerate(texts_of(70))]
    rows[66]["text"], rows[68]["text"], rows[69]["text"] = 3, "", None
    source.write_text("".join(json.dumps(row) + "\n" for row in rows))
    with pytest.raises(ValueError, match=r"in.jsonl, row 66 \(from 0\): wanted a text, found 3"):
        run(Embedder(toy, keep=[]), source, tmp_path / "raise")
    told = run(Embedder(toy, keep=["id"], on_error="null"), source, tmp_path / "null")
    table = parquet.read_table(tmp_path / "null" / "in.parquet")
    assert told["rows"] == 70 and told["failed"] == 3 and "3 rows without a result" in told["line"]
    assert table["embedding"].null_count == 3 and table["error"].to_pylist()[66:] == [
        "wanted a text, found 3",
        None,
        "an empty text",
        "null instead of a text",
    ]
    told = run(Embedder(toy, keep=["id"], on_error="skip"), source, tmp_path / "skip")
    table = parquet.read_table(tmp_path / "skip" / "in.parquet")
    assert told["rows"] == 67 and table["id"].to_pylist() == [*range(66), 67]


def test_empty_files_make_empty_parts(toy, tmp_path):
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a.jsonl").write_text("")
    write(tmp_path / "in" / "b.jsonl", texts_of(3))
    run(Embedder(toy, keep=["id"]), tmp_path / "in", tmp_path / "out")
    run(Embedder(toy, keep=["id"]), tmp_path / "in" / "a.jsonl", tmp_path / "one")
    assert parquet.read_table(tmp_path / "out" / "a.parquet").num_rows == 0
    assert parquet.read_table(tmp_path / "one" / "a.parquet").num_rows == 0


@pytest.fixture
def folder(tmp_path):
    write(tmp_path / "in" / "a.jsonl", texts_of(3))
    return tmp_path


def refused(embedder, folder, message, inputs="in", output="out", **options):
    with pytest.raises((ValueError, OSError, ImportError), match=message) as caught:
        inputs = inputs if "://" in inputs else folder / inputs
        output = output if "://" in output else folder / output
        run(embedder, inputs, output, **options)
    assert "\n" not in str(caught.value)


def test_parts_of_another_job_are_refused(embedder, classifier, toy, folder):
    run(embedder, folder / "in", folder / "out")
    refused(Embedder(classifier, "classify", keep=[]), folder, "another job: fingerprint is '")
    other = Embedder(toy, keep=[], precision="int8")
    refused(other, folder, "precision is 'float32' there and 'int8' here")
    with (folder / "in" / "a.jsonl").open("a") as file:
        file.write('{"text": "more"}\n')
    refused(embedder, folder, "not made by this job of .*a.jsonl as it is now")


def test_a_source_that_changes_drops_its_chunks(toy, folder):
    class Dying(Embedder):
        def finish(self, work):
            if work.rows.count < 2:
                raise Killed
            return super().finish(work)

    with pytest.raises(Killed):
        run(Dying(toy, keep=[]), folder / "in", folder / "out", chunk=2)
    write(folder / "in" / "a.jsonl", ["entirely", "other", "texts", "now"])
    embedder = Embedder(toy, keep=[])
    run(embedder, folder / "in", folder / "out", chunk=2)
    found = parquet.read_table(folder / "out" / "a.parquet")["embedding"].to_pylist()
    wanted = vectors_of(embedder, ["entirely", "other", "texts", "now"])
    np.testing.assert_allclose(found, wanted, atol=1e-6)


def test_bad_inputs_are_one_line(embedder, toy, folder, monkeypatch):
    for library in ("gcsfs", "s3fs"):
        monkeypatch.setitem(sys.modules, library, None)  # as if it were not installed
    refused(embedder, folder, "no such file", inputs="missing.jsonl")
    refused(embedder, folder, "no files there", inputs="*.csv")
    for name in ("a.jsonl", "b.csv"):
        write(folder / "two" / name, ["x"])
    refused(embedder, folder, "is one file, and there are 2", inputs="two", output="x.npy")
    (folder / "a.docx").write_text("x")
    refused(embedder, folder, "unknown input format; known: .txt", inputs="a.docx")
    refused(embedder, folder, "unknown output format; known: .parquet", output="out.doc")
    refused(Embedder(toy, "embed", "body"), folder, "a.jsonl: no column 'body'; columns: .*'text'")
    refused(Embedder(toy, keep=["url"]), folder, "a.jsonl: no column 'url'")
    refused(Embedder(toy, keep=["id"]), folder, "npy holds vectors alone", output="o.npy")
    refused(Embedder(toy, "token_embed", keep=[]), folder, "npy holds one vector", output="o.npy")
    (folder / "in" / "a.jsonl").write_text('{"text": "a"}\n{"text": \n')
    refused(embedder, folder, "a.jsonl, line 2: not JSON", output="broken")
    refused(
        embedder, folder, r"gs://x/y.jsonl: pip install 'jaxpool\[gcs\]'", inputs="gs://x/y.jsonl"
    )
    refused(embedder, folder, r"s3://b/out: pip install 'jaxpool\[s3\]'", output="s3://b/out")
    refused(embedder, folder, "unknown kind of place 'nope'", inputs="nope://b/x.jsonl")


def test_two_schemas_are_refused(toy, tmp_path):
    write(tmp_path / "in" / "a.jsonl", texts_of(3))
    (tmp_path / "in" / "b.jsonl").write_text('{"id": "x", "text": "a"}\n')
    (tmp_path / "in" / "c.jsonl").write_text('{"id": null, "text": "a"}\n')
    embedder = Embedder(toy, keep=["id"])
    refused(embedder, tmp_path, "b.jsonl: column 'id' is string, and int64 in what was read before")
    (tmp_path / "in" / "b.jsonl").unlink()
    run(embedder, tmp_path / "in", tmp_path / "out")  # nulls alone have any type
    assert parquet.read_table(tmp_path / "out" / "c.parquet")["id"].type == pa.int64()
    write(tmp_path / "other" / "a.csv", ["x"])
    write(tmp_path / "other" / "a.jsonl", ["x"])
    refused(embedder, tmp_path, "a.csv and .*a.jsonl would both become a.parquet", inputs="other")


@pytest.mark.parametrize(
    "arguments,message",
    [
        (["--column", "body"], "a.jsonl: no column 'body'; columns: ['id', 'text']"),
        (["--keep", "id", "--input", "TWO"], "column 'id' is string, and int64 in what was read"),
        (["--input", "ROWS"], "row 1 (from 0): an empty text"),
        (["--shard", "3/3"], "--shard 3/3: shard 3 of 3; the first is 0, so the last is 2"),
        (["--output", "DONE"], "holds parts of another job: precision is 'int8' there"),
        (["--input", "s3://bucket/in"], "s3://bucket/in: pip install 'jaxpool[s3]'"),
        (["--output", "gs://bucket/out"], "gs://bucket/out: pip install 'jaxpool[gcs]'"),
    ],
)
def test_the_command_says_it_in_a_line(arguments, message, toy, folder, monkeypatch, capsys):
    for library in ("gcsfs", "s3fs"):
        monkeypatch.setitem(sys.modules, library, None)
    write(folder / "two" / "a.jsonl", ["x"])
    (folder / "two" / "b.jsonl").write_text('{"id": "x", "text": "a"}\n')
    (folder / "rows.jsonl").write_text('{"text": "a"}\n{"text": " "}\n')
    run(Embedder(toy, keep=[], precision="int8"), folder / "in", folder / "done")
    places = {"TWO": "two", "ROWS": "rows.jsonl", "DONE": "done"}
    given = [str(folder / places[one]) if one in places else one for one in arguments]
    for name, place in (("--input", "in"), ("--output", "out")):
        given += [] if name in given else [name, str(folder / place)]
    monkeypatch.setattr(sys, "argv", ["jaxpool", "embed", toy, "--chunk", "64", *given])
    with pytest.raises(SystemExit) as ended:
        main()
    told = capsys.readouterr().err.strip().splitlines()[-1]
    assert ended.value.code == 2 and told.startswith("jaxpool: error: ") and message in told
