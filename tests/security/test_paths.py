"""Names from a checkpoint stay in its folder; what is written is written in the output folder."""

import os
import shutil

import pytest
from safetensors.numpy import load_file, save_file
from security import tiny

OUTSIDE = ["..", "../out", "../model2", "1_Dense/../../out", "/tmp", "..\0", 7, None, ["x"], {}]


def modules(case, *paths, kind="Dense"):
    """A modules.json with a further module at each path."""
    rows = [{"type": "sentence_transformers.models.Transformer", "path": ""}]
    rows += [{"type": f"sentence_transformers.models.{kind}", "path": path} for path in paths]
    tiny.write_json(case.model / "modules.json", rows)


def dense(folder):
    """The files of a Dense module."""
    folder.mkdir(parents=True, exist_ok=True)
    tiny.write_json(folder / "config.json", {"in_features": tiny.DIM, "out_features": 4})
    weights = tiny.tensors()["embeddings.position_embeddings.weight"]
    save_file(
        {"linear.weight": weights[:4], "linear.bias": weights[0, :4]}, folder / "model.safetensors"
    )


@pytest.mark.parametrize("command", ["embed", "export", "convert"])
@pytest.mark.parametrize("path", OUTSIDE, ids=repr)
def test_a_module_outside_is_not_read_nor_written(case, path, command):
    dense(case.room / "model2")
    modules(case, path)
    case.refused(command)
    assert not case.out.exists()


@pytest.mark.parametrize("path", OUTSIDE, ids=repr)
def test_a_transformer_outside_is_not_read(case, path):
    shutil.copytree(case.model, case.room / "model2")
    row = {"type": "sentence_transformers.models.Transformer", "path": path}
    tiny.write_json(case.model / "modules.json", [row])
    case.refused("export")
    assert not case.out.exists()


@pytest.mark.parametrize("member", ["../model2", "../../model2", "/tmp"])
def test_a_route_outside_is_not_read(case, member):
    dense(case.room / "model2")
    modules(case, "1_Router", kind="Router")
    (case.model / "1_Router").mkdir()
    kinds = {member: "sentence_transformers.models.Dense"}
    router = {"types": kinds, "structure": {"query": [member], "document": [member]}}
    tiny.write_json(case.model / "1_Router" / "router_config.json", router)
    case.refused("export")


@pytest.mark.parametrize("name", ["../other.safetensors", "/etc/passwd", "..", "x\0", 7, None])
def test_a_shard_outside_is_not_read(case, name):
    shutil.move(case.model / "model.safetensors", case.room / "other.safetensors")
    index = {"weight_map": dict.fromkeys(tiny.tensors(), name)}
    tiny.write_json(case.model / "model.safetensors.index.json", index)
    case.refused()


@pytest.mark.parametrize("index", [[], {"weight_map": []}, {}, {"weight_map": {"a": ["b"]}}, 3])
def test_an_index_of_another_shape_is_refused(case, index):
    (case.model / "model.safetensors").unlink()
    tiny.write_json(case.model / "model.safetensors.index.json", index)
    case.refused()


@pytest.mark.parametrize("command", ["embed", "info", "export", "convert"])
@pytest.mark.parametrize("name", ["notes.txt", "vocab.txt", "sub/notes.txt", "sub", "config.json"])
def test_a_link_out_of_the_folder_is_refused(case, name, command):
    link = case.model / name
    link.parent.mkdir(exist_ok=True)
    link.unlink(missing_ok=True)
    link.symlink_to(case.room if name == "sub" else case.secret)
    assert "is a link out of the checkpoint" in case.refused(command)


@pytest.mark.parametrize("name", ["model.safetensors", "tokenizer.json"])
def test_weights_behind_a_link_are_refused(case, name):
    shutil.move(case.model / name, case.room / name)
    (case.model / name).symlink_to(case.room / name)
    case.refused(says="is a link out of the checkpoint")


def test_a_link_within_the_folder_is_followed(case):
    shutil.move(case.model / "config.json", case.model / "real.json")
    (case.model / "config.json").symlink_to("real.json")
    assert case.run(*case.arguments("export")).code == 0
    assert not (case.out / "config.json").is_symlink()


def cached(case):
    """The checkpoint as the Hub's cache has it."""
    root = case.room / "models--some--model"
    (root / "blobs").mkdir(parents=True)
    snapshot = root / "snapshots" / "0123abcd"
    snapshot.mkdir(parents=True)
    for number, file in enumerate(sorted(case.model.iterdir())):
        shutil.move(file, root / "blobs" / f"{number:040}")
        (snapshot / file.name).symlink_to(f"../../blobs/{number:040}")
    case.model = snapshot
    return root


def test_the_links_of_the_hub_s_cache_are_followed(case):
    cached(case)
    assert case.run(*case.arguments("export")).code == 0
    assert not any(file.is_symlink() for file in case.out.iterdir())


@pytest.mark.parametrize("target", ["../../../secret.txt", "../../refs/secret", "blobs"])
def test_other_links_in_the_hub_s_cache_are_not(case, target):
    root = cached(case)
    (root / "refs").mkdir()
    shutil.copy(case.secret, root / "refs" / "secret")
    if target == "blobs":  # the blobs themselves a link
        (root / "blobs").rename(case.room / "elsewhere")
        (root / "blobs").symlink_to(case.room / "elsewhere")
    else:
        (case.model / "notes.txt").symlink_to(target)
    case.refused("export")


def test_a_pipe_in_the_folder_is_no_file(case):
    os.mkfifo(case.model / "notes.txt")
    (case.model / "tokenizer_config.json").unlink()
    os.mkfifo(case.model / "tokenizer_config.json")
    assert case.run(*case.arguments("embed")).code == 0
    case.refused("export")


@pytest.mark.parametrize("command", ["export", "convert", "compile"])
def test_an_output_that_is_there_is_replaced_by_force_alone(case, command):
    case.out.mkdir()
    (case.out / "mine.txt").write_text("mine")
    (case.out / "model.safetensors").symlink_to(case.secret)
    (case.out / "config.json").symlink_to(case.secret)
    (case.out / "params").symlink_to(case.room)
    arguments = case.arguments(command)
    if command == "compile":
        arguments = ("compile", case.model, "--output", case.out, "--task", "embed")
        arguments += ("--max-model-len", "16", "--max-num-batched-tokens", "16")
    refused = case.jail.run(*arguments)
    assert refused.refused and "is not empty" in refused.err
    assert (case.out / "mine.txt").read_text() == "mine"
    assert case.run(*arguments, "--force").code == 0
    assert not (case.out / "mine.txt").exists()
    assert not any(file.is_symlink() for file in case.out.rglob("*"))


@pytest.mark.parametrize("command", ["export", "convert"])
def test_an_output_that_is_a_link_or_the_model_is_refused(case, command):
    case.out.symlink_to(case.model)
    assert case.run(*case.arguments(command), "--force").refused
    assert case.run(command, case.model, case.model, "--force").refused
    assert case.run(command, case.model, case.room, "--force").refused


def test_tensors_go_by_their_names_and_these_are_no_files(case):
    file = case.model / "model.safetensors"
    save_file(load_file(file) | {"../../evil": load_file(file)["embeddings.LayerNorm.bias"]}, file)
    case.harmless("export")


@pytest.mark.parametrize("path", ["../model2", "/tmp/none", "pkg://../x", "pkg://numpy/../../.."])
def test_an_adapter_s_base_is_a_model_s_name_and_nothing_else(case, path):
    (case.model / "model.safetensors").unlink()
    adapter = {"peft_type": "LORA", "base_model_name_or_path": path}
    tiny.write_json(case.model / "adapter_config.json", adapter)
    case.refused()


@pytest.mark.parametrize("scheme", ["file", "memory", "http", "gs", "hf"])
def test_an_adapter_s_base_is_no_url(case, scheme):
    base = {"base_model_name_or_path": f"{scheme}://{case.room}/secret"}
    tiny.write_json(case.model / "adapter_config.json", {"peft_type": "LORA"} | base)
    (case.model / "model.safetensors").unlink()
    case.refused(says="is a URL, which only you may name")
