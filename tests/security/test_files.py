"""Broken and hostile files of a checkpoint: refused in a line, or harmless."""

import base64
import json
import os
import zipfile

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file
from security import tiny

SIZES = ("hidden_size", "num_hidden_layers", "num_attention_heads", "intermediate_size")
SIZES += ("vocab_size", "max_position_embeddings", "num_labels", "type_vocab_size")
VALUES = (10**9, 10**30, -1, 0, float("nan"), float("inf"), "many", None, [], {}, True, 1e308)


@pytest.mark.parametrize("value", VALUES, ids=repr)
@pytest.mark.parametrize("name", SIZES)
def test_a_size_in_the_configuration_takes_no_memory(case, name, value):
    tiny.edit_json(case.model / "config.json", **{name: value})
    outcome = case.harmless("export")
    assert value != 10**9 or not name.startswith("num_hidden") or outcome.refused


@pytest.mark.parametrize("kind", ["SequenceClassification", "TokenClassification", "MaskedLM"])
@pytest.mark.parametrize("field", ["num_labels", "id2label"])
def test_labels_that_no_head_has(case, kind, field):
    value = 10**9 if field == "num_labels" else {"x": 1, "-1": [], "99999999999": None}
    fields = {"architectures": [f"Bert{kind}"], field: value}
    tiny.edit_json(case.model / "config.json", **fields)
    case.refused()


JUNK = [b"", b"{", b"[]", b"3", b"null", b'"x"', b"\xff\xfe\x00", b"[" * 100_000, b"\0" * 100]
READ = ("config.json", "tokenizer.json", "tokenizer_config.json", "special_tokens_map.json")
READ += ("modules.json", "adapter_config.json", "config_sentence_transformers.json", "tensors.json")
READ += ("artifact.metadata", "model.safetensors")


@pytest.mark.parametrize("content", JUNK, ids=range(len(JUNK)))
@pytest.mark.parametrize("name", READ)
def test_a_file_that_is_not_what_it_should_be(case, name, content):
    (case.model / name).write_bytes(content)
    case.harmless("info")


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -5, "x", [], 1e30, 0])
@pytest.mark.parametrize("name", ["model_max_length", "truncation_side", "pad_token"])
def test_odd_settings_of_a_tokenizer(case, name, value):
    tiny.edit_json(case.model / "tokenizer_config.json", **{name: value})
    outcome = case.harmless("info")
    assert value == value or outcome.refused, "NaN is no value"


def replace(content, pattern="a"):
    return {"type": "Replace", "pattern": {"String": pattern}, "content": content}


def charsmap(longest):
    """A character map of SentencePiece with an empty trie and one replacement."""
    return base64.b64encode(bytes(4) + b"a" * longest + b"\0").decode()


GROWING = {
    "doubling": {"type": "Sequence", "normalizers": [replace("aa")] * 40},
    "long": replace("a" * 10**6),
    "between": {"type": "Replace", "pattern": {"Regex": ""}, "content": "b" * 1000},
    "before": {"type": "Sequence", "normalizers": [{"type": "Prepend", "prepend": "a" * 9**5}] * 9},
    "map": {"type": "Precompiled", "precompiled_charsmap": charsmap(10**5)},
    "nested": {
        "type": "Sequence",
        "normalizers": [{"type": "Sequence", "normalizers": [replace("aa")] * 20}] * 2,
    },
}


@pytest.mark.parametrize("name", GROWING)
def test_a_normalizer_that_expands_is_refused(case, name):
    tiny.edit_json(case.model / "tokenizer.json", normalizer=GROWING[name])
    assert case.refused()


@pytest.mark.parametrize("regex", ["(a+)+$", "(a|a)*$", "(.*)*$", "((a*)*)*b", "(?:a?){30}a{30}"])
@pytest.mark.parametrize("place", ["normalizer", "pre_tokenizer"])
def test_a_pattern_that_backtracks_gives_up(case, regex, place):
    pattern = {"Regex": regex}
    rule = {"type": "Replace", "pattern": pattern, "content": "b"}
    if place == "pre_tokenizer":
        rule = {"type": "Split", "pattern": pattern, "behavior": "Isolated", "invert": False}
    tiny.edit_json(case.model / "tokenizer.json", **{place: rule})
    outcome = case.run("embed", case.model, "a" * 60 + "!")
    assert outcome.refused or outcome.code == 0, outcome


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 3e38])
@pytest.mark.parametrize(
    "name", ["embeddings.word_embeddings.weight", "encoder.layer.1.output.dense.weight"]
)
def test_weights_that_are_not_finite_give_no_vectors(case, name, value):
    file = case.model / "model.safetensors"
    tensors = load_file(file)
    tensors[name] = np.full_like(tensors[name], value)
    save_file(tensors, file)
    outcome = case.harmless()
    assert "NaN" not in outcome.out and "nan" not in outcome.out.lower(), outcome
    assert outcome.refused or value == 3e38


@pytest.mark.parametrize("form", ["jsonl", "npy", "parquet"])
def test_weights_that_are_not_finite_give_no_files(case, form):
    file = case.model / "model.safetensors"
    tensors = load_file(file)
    save_file({name: np.full_like(x, np.nan) for name, x in tensors.items()}, file)
    (case.room / "in.jsonl").write_text('{"text": "hello"}\n' * 3)
    options = ("--input", case.room / "in.jsonl", "--output", case.out, "--format", form)
    outcome = case.run("embed", case.model, *options)
    assert outcome.refused and "not finite" in outcome.err, outcome
    assert not [part for part in case.out.rglob(f"*.{form}") if part.stat().st_size]


def header(entries: dict, data: bytes = b"") -> bytes:
    """A safetensors file of a header."""
    text = json.dumps(entries).encode()
    return len(text).to_bytes(8, "little") + text + data


def entry(shape, offsets, dtype="F32"):
    return {"dtype": dtype, "shape": shape, "data_offsets": offsets}


HEADERS = {
    "huge length": (2**60).to_bytes(8, "little") + b"{}",
    "negative": header({"a": entry([-1], [0, 4])}, bytes(4)),
    "overflow": header({"a": entry([2**40, 2**40], [0, 4])}, bytes(4)),
    "outside": header({"a": entry([1000], [0, 4000])}, bytes(4)),
    "backwards": header({"a": entry([1], [4, 0])}, bytes(4)),
    "overlap": header({"a": entry([1], [0, 4]), "b": entry([1], [0, 4])}, bytes(4)),
    "unknown dtype": header({"a": entry([1], [0, 4], "F999")}, bytes(4)),
    "deep": (200_000).to_bytes(8, "little") + b'{"a":' * 40_000,
    "many": header({f"t{i}": entry([0], [0, 0]) for i in range(50_000)}),
    "zero sizes": header({n: entry([0, 10**9], [0, 0]) for n in tiny.tensors()}),
}


@pytest.mark.parametrize("name", HEADERS)
def test_a_header_that_lies(case, name):
    (case.model / "model.safetensors").write_bytes(HEADERS[name])
    case.refused()


def torch_file(path, pickled: bytes, method=zipfile.ZIP_STORED, names=("data.pkl",)):
    with zipfile.ZipFile(path, "w", method) as archive:
        for name in names:
            archive.writestr(f"x/{name}", pickled)
        archive.writestr("x/data/0", bytes(64))


def pickles(canary) -> dict[str, bytes]:
    call = f"(S'touch {canary}'\ntR."
    return {
        "open": tiny.touching(canary),
        "system": f"cos\nsystem\n{call}".encode(),
        "eval": f"cbuiltins\neval\n(S'open({str(canary)!r:s}, \"w\")'\ntR.".encode(),
        "getattr": b"cbuiltins\ngetattr\n(cos\nsystem\nS'x'\ntR.",
        "stack global": b"\x80\x04\x8c\x02os\x8c\x06system\x93.",
        "import": b"cjaxpool.cli\nmain\n(tR.",
        "recursion": b"(" * 100_000 + b"t" * 100_000 + b".",
        "memory": b"\x80\x02" + b"]q\x00" + b"h\x00a" * 10 + b".",
        "long": b"\x80\x02\x8b" + (2**31 - 1).to_bytes(4, "little") + b".",
        "binbytes": b"\x80\x04\x8e" + (2**62).to_bytes(8, "little") + b".",
        "no stop": b"\x80\x02",
        "build": b"ctorch._utils\n_rebuild_tensor_v2\n}S'function'\nNsb.",
    }


@pytest.mark.parametrize("name", pickles("x"))
@pytest.mark.parametrize("file", ["pytorch_model.bin", "sparse_linear.pt"])
def test_a_pickle_runs_nothing(case, file, name):
    if file == "pytorch_model.bin":
        (case.model / "model.safetensors").unlink()
    torch_file(case.model / file, pickles(case.canary)[name])
    case.refused()


@pytest.mark.parametrize("kind", ["bomb", "twice", "none", "names", "cut"])
def test_an_archive_that_lies(case, kind):
    (case.model / "model.safetensors").unlink()
    file = case.model / "pytorch_model.bin"
    names = {"twice": ("data.pkl", "y/data.pkl"), "none": (), "names": ("../../data.pkl",)}
    content = bytes(10**8) if kind == "bomb" else b"\x80\x02}."
    torch_file(file, content, zipfile.ZIP_DEFLATED, names.get(kind, ("data.pkl",)))
    if kind == "cut":
        os.truncate(file, file.stat().st_size // 2)
    case.refused()


@pytest.mark.parametrize("rank", [0, 10**9, -1, "x", None])
@pytest.mark.parametrize("pattern", [{}, {"(a+)+$": 4}, {"(": 1}])
def test_an_adapter_of_odd_numbers(case, rank, pattern):
    adapter = {"peft_type": "LORA", "r": rank, "lora_alpha": rank, "alpha_pattern": pattern}
    tiny.write_json(case.model / "adapter_config.json", adapter)
    name = "base_model.model.encoder.layer.0.output.dense.lora_{}.weight"
    a, b = np.zeros((2, tiny.MLP), "f4"), np.zeros((tiny.DIM, 2), "f4")
    save_file({name.format("A"): a, name.format("B"): b}, case.model / "adapter_model.safetensors")
    case.harmless("export")


@pytest.mark.parametrize("manifest", [{"": {}}, {"": {"a": {}}}, {"x": 1}, {"": []}])
def test_an_orbax_folder_of_nothing(case, manifest):
    (case.model / "params").mkdir()
    tiny.write_json(case.model / "tensors.json", manifest)
    case.refused()
