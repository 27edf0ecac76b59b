"""The layouts that publish models of late interaction: the authors' own, adapters, other names."""

import json
import re
from pathlib import Path

import jax
import numpy as np
import pytest
from safetensors.numpy import load_file, save_file
from transformers import Qwen3VLModel

import jaxpool
from converters.checkpoint import open_checkpoint
from tests.images import joined_models
from tests.images import page_models as models
from tests.images.photos import photo
from tests.images.test_towers import near

ENGINE = {"colmodernvbert": "ColModernVBert", "colpali": "ColPali", "colqwen2": "ColQwen2"}


@pytest.fixture(scope="module", params=ENGINE)
def folder(request, tmp_path_factory):
    """A model in transformers' layout, by the name of its kind."""
    make, _ = models.KINDS[request.param]
    return make(tmp_path_factory.mktemp("nested") / request.param)


def written(folder: Path, config: dict, tensors: dict, companions: Path) -> Path:
    """A folder of some tensors, its other files those of another one."""
    folder.mkdir()
    for file in companions.iterdir():
        if file.suffix != ".safetensors":
            (folder / file.name).write_bytes(file.read_bytes())
    (folder / "config.json").write_text(json.dumps(config))
    save_file(tensors, folder / "model.safetensors", {"format": "pt"})
    return folder


def engine(source: Path, folder: Path, rename) -> Path:
    """The same model as its authors' code saves it."""
    config = json.loads((source / "config.json").read_text())["vlm_config"]
    tensors = load_file(source / "model.safetensors")
    tensors = {
        rename(name.replace("embedding_proj_layer", "custom_text_proj")): tensor
        for name, tensor in tensors.items()
    }
    architecture = {"architectures": [ENGINE[source.name]]}
    return written(folder, config | architecture, tensors, source)


def read(folder: Path) -> dict:
    return open_checkpoint(folder).read(np.float32, lambda path, array: array)


DIALECTS = {
    "nested": lambda name: name.replace("vlm.", "model."),
    "flat": lambda name: name.replace("vlm.", "").replace(
        "language_model.model.", "language_model."
    ),
    "older": lambda name: name.replace("vlm.", "model.").replace(
        "vision_tower.", "vision_tower.vision_model."
    ),
    "newer": lambda name: (
        re.sub(r"^vlm\.(language|vision_tower|visual|multi)", r"model.model.\1", name)
        .replace("vlm.", "model.")
        .replace("language_model.model.", "language_model.")
    ),
}


@pytest.mark.parametrize("dialect", DIALECTS)
def test_the_layout_of_the_authors(folder, dialect, tmp_path):
    """The same parameters under their names, and other words."""
    found = engine(folder, tmp_path / "engine", DIALECTS[dialect])
    jax.tree.map(np.testing.assert_array_equal, read(found), read(folder))
    assert open_checkpoint(found).head.task == "token_embed"


def test_an_adapter_of_the_authors(folder, tmp_path):
    """An update of the text model and of the projection, in a folder that names its base."""
    base = engine(folder, tmp_path / "base", DIALECTS["nested"])
    rng, adapter = np.random.default_rng(0), tmp_path / "adapter"
    adapter.mkdir()
    tensors, stored = {}, load_file(base / "model.safetensors")
    ends = tuple(f"layers.1.mlp.{name}.weight" for name in ("up_proj", "Wi"))
    (layer,) = (name for name in stored if name.endswith(ends) and "vision" not in name)
    for name in ("custom_text_proj", layer.removesuffix(".weight")):
        wide, dim = stored[f"{name}.weight"].shape
        for part, shape in (("A", (2, dim)), ("B", (wide, 2))):
            values = rng.normal(size=shape).astype(np.float32)
            tensors[f"base_model.model.{name}.lora_{part}.weight"] = values
    save_file(tensors, adapter / "adapter_model.safetensors", {"format": "pt"})
    facts = {"peft_type": "LORA", "r": 2, "lora_alpha": 4, "base_model_name_or_path": str(base)}
    (adapter / "adapter_config.json").write_text(json.dumps(facts))
    found, plain = read(adapter), read(base)
    a, b = (tensors[f"base_model.model.custom_text_proj.lora_{part}.weight"] for part in "AB")
    update = (found["heads"]["projection"]["kernel"] - plain["heads"]["projection"]["kernel"]).T
    np.testing.assert_allclose(update, 2 * (b @ a), atol=1e-6)
    changed = found["layers"]["mlp"]["up"]["kernel"] - plain["layers"]["mlp"]["up"]["kernel"]
    assert not changed[0].any() and np.abs(changed[1]).max() > 1


def colqwen3(source: Path, folder: Path, architecture: str, rename) -> tuple[Path, np.ndarray]:
    """A Qwen3-VL folder with a projection, under the names of one publisher."""
    config = json.loads((source / "config.json").read_text())
    config |= {"architectures": [architecture], "model_type": architecture.lower()}
    kernel = np.random.default_rng(0).normal(size=(models.WIDTH, 32)).astype(np.float32)
    tensors = {rename(name): x for name, x in load_file(source / "model.safetensors").items()}
    proj = "embedding_proj_layer" if folder.name == "tomoro" else "custom_text_proj"
    return written(folder, config, tensors | {f"{proj}.weight": kernel}, source), kernel


PUBLISHERS = {
    "tomoro": ("ColQwen3", lambda name: f"vlm.{name}"),
    "ops": ("OpsColQwen3Model", lambda name: name.removeprefix("model.")),
    "engine": ("ColQwen3", lambda name: name.removeprefix("model.")),
}


@pytest.fixture(scope="module")
def qwen3(tmp_path_factory):
    return joined_models.qwen3_vl(tmp_path_factory.mktemp("qwen3") / "m")


@pytest.mark.parametrize("publisher", PUBLISHERS)
def test_names_of_colqwen3(publisher, qwen3, tmp_path):
    found, kernel = colqwen3(qwen3, tmp_path / publisher, *PUBLISHERS[publisher])
    params = read(found)
    np.testing.assert_array_equal(params["heads"]["projection"]["kernel"], kernel.T)
    text = load_file(qwen3 / "model.safetensors")["model.language_model.norm.weight"]
    np.testing.assert_array_equal(params["norm"]["scale"], text)


@pytest.mark.slow
def test_vectors_of_colqwen3(qwen3, tmp_path):
    folder, kernel = colqwen3(qwen3, tmp_path / "tomoro", *PUBLISHERS["tomoro"])
    llm = jaxpool.LLM(str(folder), data_parallel_size=1)
    reference = joined_models.QwenReference(qwen3, Qwen3VLModel)
    task, image = llm.model.task(), photo(90, 60)
    (page,) = llm.model.requests(task, {"image": image}, input_type="document")
    (query,) = llm.model.requests(task, "abc", input_type="query")
    decode = llm.model.tokenizer.fast.decode
    assert decode(query.ids, skip_special_tokens=False) == "abc" + "<|endoftext|>" * 10
    for one, images in ((page, [image]), (query, [])):
        hidden = reference(one.ids, images) @ kernel.T
        (wanted,) = (hidden / np.linalg.norm(hidden, axis=-1, keepdims=True),)
        ((_, found),) = llm.model.run(task, [one])
        near(found, wanted)
