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


def write(path, texts):
    match path.suffix:
        case ".txt":
            path.write_text("".join(f"{text}\n" for text in texts))
        case ".jsonl":
            path.write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
        case ".csv":
            import csv

            with path.open("w", newline="") as file:
                csv.writer(file).writerows([["text"], *[[text] for text in texts]])
        case ".parquet":
            import pyarrow as pa
            from pyarrow import parquet

            parquet.write_table(pa.table({"text": texts}), path)
    return path


def read(path):
    match path.suffix:
        case ".npy":
            return np.load(path)
        case ".jsonl":
            return np.array(
                [json.loads(line)["embedding"] for line in path.read_text().splitlines()]
            )
        case ".parquet":
            from pyarrow import parquet

            return np.array(parquet.read_table(path)["embedding"].to_pylist())


def test_texts_print_as_json_lines(vectors):
    done = jaxpool("embed", MINILM, *TEXTS[:2])
    rows = [json.loads(line) for line in done.stdout.splitlines()]
    assert [row["text"] for row in rows] == TEXTS[:2]
    np.testing.assert_allclose([row["embedding"] for row in rows], vectors[:2], atol=1e-5)


def test_a_file_of_bits(tmp_path, vectors):
    source, output = write(tmp_path / "texts.jsonl", TEXTS), tmp_path / "bits.parquet"
    jaxpool("embed", MINILM, "--input", source, "--output", output, "--precision", "ubinary")
    np.testing.assert_array_equal(read(output), np.packbits(vectors > 0, axis=1))


@pytest.mark.parametrize(
    "source,output", [(".txt", ".npy"), (".jsonl", ".jsonl"), (".csv", ".parquet")]
)
def test_files(source, output, tmp_path, vectors, minilm, monkeypatch):
    from jaxpool.jobs import files

    monkeypatch.setattr(files, "CHUNK", 2)
    seen = []

    def embed(chunks):
        for chunk in chunks:
            seen.extend(chunk)
            yield vectors[[TEXTS.index(text) for text in chunk]]

    source, output = write(tmp_path / f"in{source}", TEXTS), tmp_path / f"out{output}"
    assert files.embed_file(embed, source, "text", output, {}) == len(TEXTS)
    assert sorted(seen) == sorted(TEXTS)
    np.testing.assert_allclose(read(output), vectors, atol=1e-7)
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted([source.name, output.name])


def test_interrupted_job_resumes(tmp_path, vectors, monkeypatch):
    from jaxpool.jobs import files

    monkeypatch.setattr(files, "CHUNK", 2)
    source, output = write(tmp_path / "in.parquet", TEXTS), tmp_path / "out.npy"
    computed, broken = [], [TEXTS[2]]

    def embed(chunks):
        for chunk in chunks:
            if chunk[0] in broken:
                raise KeyboardInterrupt
            computed.append(chunk[0])
            yield vectors[[TEXTS.index(text) for text in chunk]]

    with pytest.raises(KeyboardInterrupt):
        files.embed_file(embed, source, "text", output, {"model": "a"})
    assert not output.exists()
    with pytest.raises(ValueError, match="unfinished job with another model"):
        files.embed_file(embed, source, "text", output, {"model": "b"})
    broken.clear()
    files.embed_file(embed, source, "text", output, {"model": "a"})
    assert computed == [TEXTS[0], TEXTS[2], TEXTS[4]]  # each once, in two runs
    np.testing.assert_array_equal(np.load(output), vectors)


def test_command_embeds_a_file(tmp_path, vectors):
    source, output = write(tmp_path / "in.csv", TEXTS), tmp_path / "out.npy"
    done = jaxpool("embed", MINILM, "--input", source, "--output", output)
    assert "5 texts" in done.stderr
    np.testing.assert_allclose(np.load(output), vectors, atol=1e-5)


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
        (["embed", MINILM, "--input", "in.docx", "--output", "o.npy"], "unknown input format"),
        (["embed", MINILM, "--input", "in.txt", "--output", "o.doc"], "unknown output format"),
        (["embed", MINILM, "--input", "in.txt", "--output", "/proc/o.npy"], "/proc/o.npy.parts"),
        (["embed", MINILM, "--input", "in.jsonl", "--output", "o.npy"], "text 2: wanted a string"),
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
