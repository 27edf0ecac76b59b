"""What published checkpoints do with names, tied tensors, buffers and damage."""

import json
import shutil
from collections import OrderedDict

import jax
import numpy as np
import pytest
import torch
import transformers as hf
from parity import save_random
from safetensors.numpy import load_file, save_file

from converters import rows
from converters.checkpoint import open_checkpoint
from converters.files import mapped
from converters.report import CheckpointError
from jaxpool.nn.leaf import Leaf

CONFIG = hf.BertConfig(
    vocab_size=97,
    hidden_size=36,
    num_hidden_layers=2,
    num_attention_heads=4,
    intermediate_size=50,
    max_position_embeddings=64,
)


@pytest.fixture(scope="module")
def plain(tmp_path_factory):
    """A folder as transformers saves it."""
    return save_random(hf.BertModel, CONFIG, tmp_path_factory.mktemp("plain"))


@pytest.fixture
def copy(plain, tmp_path):
    """The same folder, to be damaged."""
    return shutil.copytree(plain, tmp_path / "copy")


def read(folder):
    return open_checkpoint(folder).read(np.float32, lambda path, array: array)


def test_sharded_torch_files_in_the_dialect_of_the_first_releases(plain, copy):
    """Prefixed, gamma and beta, buffers and the unused heads of pre-training, no safetensors."""
    (copy / "model.safetensors").unlink()
    old = OrderedDict()
    for name, array in load_file(plain / "model.safetensors").items():
        name = name.replace("LayerNorm.weight", "LayerNorm.gamma")
        name = name.replace("LayerNorm.bias", "LayerNorm.beta")
        old[f"bert.{name}"] = torch.from_numpy(array)
    old["bert.embeddings.position_ids"] = torch.arange(64)[None]
    old["cls.predictions.bias"] = torch.zeros(97)
    old["cls.predictions.decoder.weight"] = old["bert.embeddings.word_embeddings.weight"]
    names = list(old)
    shards = {"pytorch_model-1.bin": names[::2], "pytorch_model-2.bin": names[1::2]}
    for file, members in shards.items():
        torch.save({name: old[name] for name in members}, copy / file)
    where = {name: file for file, members in shards.items() for name in members}
    (copy / "pytorch_model.bin.index.json").write_text(json.dumps({"weight_map": where}))
    jax.tree.map(np.testing.assert_array_equal, read(copy), read(plain))


TABLE = """
embed.kernel embeddings.weight V D
head.kernel  head.weight=embeddings.weight V D
"""


def test_tied_tensors_are_read_twice_and_written_once():
    leaves = {"embed.kernel": Leaf("V D", (5, 3)), "head.kernel": Leaf("D V", (3, 5))}

    class Source(dict):
        def shape(self, name):
            return self[name].shape

    def convert(source):
        table = [row.tie(source.keys()) for row in rows.parse(TABLE)]
        made = rows.layouts(table, leaves, {})
        tree = rows.read(made, source, np.float32, lambda path, array: array)
        return tree, dict(rows.write(made, tree))

    embedding = np.arange(15, dtype=np.float32).reshape(5, 3)
    tree, written = convert(Source({"embeddings.weight": embedding}))
    np.testing.assert_array_equal(tree["head.kernel"], embedding.T)
    assert written.keys() == {"embeddings.weight"}
    tree, written = convert(Source({"embeddings.weight": embedding, "head.weight": embedding + 1}))
    np.testing.assert_array_equal(tree["head.kernel"], embedding.T + 1)
    np.testing.assert_array_equal(written["head.weight"], embedding + 1)


def test_missing_and_unexpected_tensors_are_both_listed(copy):
    file = copy / "model.safetensors"
    tensors = load_file(file)
    tensors["extra.weight"] = tensors.pop("encoder.layer.1.output.dense.bias")
    save_file(tensors, file)
    with pytest.raises(
        CheckpointError,
        match=r"missing tensors \[encoder.layer.1.output.dense.bias\], "
        r"unexpected tensors \[extra.weight\]",
    ):
        read(copy)


@pytest.mark.parametrize(
    ("field", "value", "error"),
    [
        ("intermediate_size", 51, r"axis F differs.*'F D' want \(51, 36\), found \(50, 36\)"),
        ("vocab_size", 96, r"word_embeddings.weight.*axis V differs.*want \(96, 36\)"),
        ("max_position_embeddings", 32, "position_embeddings.weight.*axis P differs"),
    ],
)
def test_a_config_that_contradicts_its_tensors(copy, field, value, error):
    config = json.loads((copy / "config.json").read_text())
    (copy / "config.json").write_text(json.dumps(config | {field: value}))
    with pytest.raises(CheckpointError, match=f"{error}.*fields of that size: .*{field}"):
        read(copy)


def test_more_layers_than_the_file_has(copy):
    config = json.loads((copy / "config.json").read_text())
    (copy / "config.json").write_text(json.dumps(config | {"num_hidden_layers": 3}))
    with pytest.raises(
        CheckpointError, match=r"missing tensors \[encoder.layer.2.*output.dense.weight"
    ):
        read(copy)


@pytest.mark.parametrize("size", [4, 100, 20_000])
def test_truncated_safetensors(copy, size):
    file = copy / "model.safetensors"
    file.write_bytes(file.read_bytes()[:size])
    with pytest.raises(CheckpointError, match="model.safetensors is truncated or not a saf"):
        read(copy)


def test_weights_of_another_user(copy, monkeypatch):
    def denied(*_):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(mapped, "open", denied, raising=False)
    with pytest.raises(CheckpointError, match="model.safetensors is not readable by this process"):
        read(copy)


def test_two_names_of_one_tensor_are_refused(copy):
    file = copy / "model.safetensors"
    tensors = load_file(file)
    tensors["embeddings.LayerNorm.gamma"] = tensors["embeddings.LayerNorm.weight"].copy()
    save_file(tensors, file)
    with pytest.raises(CheckpointError, match="a second tensor embeddings.LayerNorm.weight"):
        read(copy)
