"""The `jaxpool` command as a person uses it: in a process of its own."""

import json
import subprocess
import sys

import numpy as np
import pytest
from safetensors.numpy import load_file

from tests.conftest import MINILM

TEXTS = ["one text", 'another, with "quotes"', "", "日本語", "a much longer text " * 20]


def jaxpool(*arguments, check=True):
    command = [sys.executable, "-W", "error", "-m", "jaxpool.cli", *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    if check:
        assert done.returncode == 0, done.stderr
    return done


@pytest.fixture(scope="module")
def vectors(minilm):
    options = {"truncate_prompt_tokens": -1}
    outputs = minilm.embed(TEXTS, use_tqdm=False, tokenization_kwargs=options)
    return np.array([output.outputs.embedding for output in outputs], np.float32)


def test_texts_print_as_json_lines(vectors):
    done = jaxpool("embed", MINILM, *TEXTS[:2])
    rows = [json.loads(line) for line in done.stdout.splitlines()]
    assert [row["text"] for row in rows] == TEXTS[:2]
    np.testing.assert_allclose([row["embedding"] for row in rows], vectors[:2], atol=1e-5)


def test_a_file_to_a_file(tmp_path, vectors):
    source, output = tmp_path / "texts.jsonl", tmp_path / "vectors.npy"
    source.write_text("".join(json.dumps({"text": text}) + "\n" for text in TEXTS))
    files = ("--input", source, "--output", output)
    done = jaxpool("embed", MINILM, *files, "--on-error", "skip", "--precision", "ubinary")
    assert "4 rows in 1 of 1 parts" in done.stderr and "1 rows without a result" in done.stderr
    real = vectors[[bool(text) for text in TEXTS]]
    np.testing.assert_array_equal(np.load(output), np.packbits(real > 0, axis=1))


def test_files_to_parts(tmp_path, vectors):
    from pyarrow import parquet

    (tmp_path / "in").mkdir()
    for name, text in zip("ab", TEXTS[:2], strict=True):
        row = json.dumps({"id": name, "body": text, "more": 1})
        (tmp_path / "in" / f"{name}.jsonl").write_text(row + "\n")
    files = ("--input", tmp_path / "in", "--output", tmp_path / "out", "--column", "body")
    for shard in ("0/2", "1/2"):
        jaxpool("embed", MINILM, *files, "--keep", "id", "--shard", shard)
    tables = [parquet.read_table(tmp_path / "out" / f"{name}.parquet") for name in "ab"]
    assert [table.column_names for table in tables] == [["id", "embedding"]] * 2
    found = [table["embedding"].to_pylist()[0] for table in tables]
    np.testing.assert_allclose(found, vectors[:2], atol=1e-5)
    manifest = json.loads((tmp_path / "out" / "_job" / "manifest.json").read_text())
    assert manifest["rows"] == 2 and [f["rows"] for f in manifest["files"]] == [1, 1]


def test_info_tells_facts_and_origins():
    lines = jaxpool("info", MINILM).stdout.splitlines()
    facts = {line.split("  ")[0].strip(): line for line in lines}
    assert "BertModel  [config.json]" in facts["architecture"]
    assert "22,713,216 (F32)" in facts["parameters"]
    assert "256 tokens  [sentence-transformers files]" in facts["max length"]
    assert "embed, token_embed" in facts["tasks"]
    assert "MEAN  [sentence-transformers files]" in facts["seq_pooling_type"]


def test_convert_and_export(tmp_path, vectors, minilm):
    """Through Orbax and back: equal vectors on the way, equal tensors at the end."""
    from jaxpool import LLM

    jaxpool("convert", MINILM, tmp_path / "orbax")
    outputs = LLM(str(tmp_path / "orbax")).embed(TEXTS[:2], use_tqdm=False)
    np.testing.assert_allclose([o.outputs.embedding for o in outputs], vectors[:2], atol=1e-6)
    jaxpool("export", tmp_path / "orbax", tmp_path / "exported")
    before = load_file(minilm.model.checkpoint.folder / "model.safetensors")
    after = load_file(tmp_path / "exported" / "model.safetensors")
    assert before.keys() == after.keys()
    for name, tensor in after.items():
        np.testing.assert_array_equal(tensor, before[name])
    from sentence_transformers import SentenceTransformer

    again = SentenceTransformer(str(tmp_path / "exported"), device="cpu").encode(TEXTS[:2])
    np.testing.assert_allclose(again, vectors[:2], atol=1e-5)


@pytest.mark.parametrize(
    "arguments,message",
    [
        (["embed", "no/such/model", "x"], "no such model folder: no/such/model"),
        (["embed", "nobody/nothing", "x"], "no such model: 'nobody/nothing' is neither"),
        (["embed", MINILM], "TEXT arguments or --input FILE"),
        (["embed", MINILM, "--input", "missing.txt", "--output", "o.npy"], "missing.txt"),
        (["embed", MINILM, "--input", "in.txt"], "--input wants --output"),
        (["embed", MINILM, "--input", "in.docx", "--output", "o.npy"], "unknown input format"),
        (["embed", MINILM, "--input", "in.txt", "--output", "o.doc"], "unknown output format"),
        (["embed", MINILM, "--input", "in.txt", "--output", "/proc/o.npy"], "/proc/o.npy.job"),
        (["embed", MINILM, "--input", "in.jsonl", "--output", "o.npy"], "found 3"),
        (["embed", MINILM, "--input", "in.txt", "--output", "o", "--shard", "2/2"], "shard 2 of 2"),
        (["classify", MINILM, "x"], "Classification API is not supported by this model"),
        (["run-batch", MINILM, "-i", "no.jsonl", "-o", "o.jsonl"], "no such file: no.jsonl"),
        (["embed", MINILM, "x", "--dtype", "float8"], "unknown dtype 'float8'"),
        (["embed", MINILM, "x", "--max-model-len", "4096"], "max_model_len (4096) is greater"),
        (["embed", MINILM, "x", "--hf-overrides", "{"], "--hf-overrides is not JSON"),
        (["convert", MINILM, "/proc/out"], "/proc/out"),
    ],
)
def test_errors_are_one_line(arguments, message, tmp_path, monkeypatch, capsys):
    from jaxpool import cli

    monkeypatch.chdir(tmp_path)
    (tmp_path / "in.txt").write_text("a\n")
    (tmp_path / "in.docx").write_text("a\n")
    (tmp_path / "in.jsonl").write_text('{"text": "a"}\n{"text": 3}\n')
    monkeypatch.setattr(sys, "argv", ["jaxpool", *arguments])
    with pytest.raises(SystemExit) as stop:
        cli.main()
    error = capsys.readouterr().err
    assert stop.value.code == 2
    assert message in error and error.count("\n") == 1 and "Traceback" not in error


def test_usage_errors_exit_with_2():
    done = jaxpool("embed", "--nonsense", check=False)
    assert done.returncode == 2 and "No such option" in done.stderr
