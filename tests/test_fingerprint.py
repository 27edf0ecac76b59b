"""The fingerprint of an embedding space: equal for equal vectors, changed by what changes them."""

import json
import shutil

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file, save_file

from converters.checkpoint import open_checkpoint
from converters.files.orbax import save as save_orbax
from jaxpool import LLM, load
from jaxpool.info import describe
from tests.small import save


def told(folder) -> str:
    """The fingerprint that `jaxpool info` prints."""
    return {fact.name: fact.value for fact in describe(str(folder))}["fingerprint"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return save(tmp_path_factory.mktemp("space") / "model")


@pytest.fixture
def copy(folder, tmp_path):
    return shutil.copytree(folder, tmp_path / "another name")


def test_info_and_a_loaded_model_agree(folder):
    model = load(str(folder))
    assert model.fingerprint == told(folder)
    assert LLM(str(folder)).model.fingerprint == model.fingerprint


def test_the_same_files_elsewhere_and_in_other_formats_are_the_same_space(folder, copy, tmp_path):
    assert told(copy) == told(folder)
    file = copy / "model.safetensors"
    tensors = {name: torch.from_numpy(tensor) for name, tensor in load_file(file).items()}
    torch.save(tensors, copy / "pytorch_model.bin")
    file.unlink()
    assert told(copy) == told(folder)
    save_orbax(open_checkpoint(folder), tmp_path / "orbax")
    assert told(tmp_path / "orbax") == told(folder)


def test_a_trained_copy_is_another_space(folder, copy):
    file = copy / "model.safetensors"
    tensors = load_file(file)
    name = "encoder.layer.1.output.dense.weight"
    tensors[name] = np.nextafter(tensors[name], np.float32(1))  # the smallest step there is
    save_file(tensors, file, metadata={"format": "pt"})
    assert told(copy) != told(folder)


@pytest.mark.parametrize(
    "name, change",
    [
        ("config.json", {"layer_norm_eps": 1e-5}),
        ("tokenizer_config.json", {"do_lower_case": False}),
        ("config_sentence_transformers.json", {"prompts": {"query": "query: "}}),
        ("config_sentence_transformers.json", {"default_prompt_name": "query"}),
        (
            "1_Pooling/config.json",
            {"pooling_mode_mean_tokens": False, "pooling_mode_cls_token": True},
        ),
    ],
)
def test_a_changed_file_is_another_space(copy, name, change):
    modules = [("", "Transformer"), ("1_Pooling", "Pooling")]
    types = "sentence_transformers.models."
    listed = [{"idx": i, "path": p, "type": types + kind} for i, (p, kind) in enumerate(modules)]
    (copy / "1_Pooling").mkdir()
    pooling = {"pooling_mode_mean_tokens": True}
    prompts = {"prompts": {"query": "q: "}}
    for file, content in (
        ("modules.json", listed),
        ("1_Pooling/config.json", pooling),
        ("config_sentence_transformers.json", prompts),
    ):
        (copy / file).write_text(json.dumps(content))
    before = told(copy)
    content = json.loads((copy / name).read_text())
    (copy / name).write_text(json.dumps(content | change))
    assert told(copy) != before


def test_settings_of_a_load_make_another_space(folder):
    options = (
        {},
        {"dtype": "bfloat16"},
        {"quantization": "int8"},
        {"pooler_config": {"pooling_type": "MEAN"}},
        {"pooler_config": {"use_activation": False}},
        {"hf_overrides": {"is_matryoshka": True}, "pooler_config": {"dimensions": 16}},
    )
    found = {load(str(folder), **given).fingerprint for given in options}
    assert len(found) == len(options)
