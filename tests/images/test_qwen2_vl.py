"""Qwen2-VL against transformers, and GME, which is asked in words of its own."""

import json

import jax
import numpy as np
import pytest
import torch
from safetensors.numpy import load_file, save_file
from transformers import Qwen2VLModel

import jaxpool
from tests.images import joined_models as models
from tests.images.test_joined import IMAGES, PROMPTS, images_of, raw, requests
from tests.images.test_towers import near, vectors


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return models.qwen2_vl(tmp_path_factory.mktemp("qwen2-vl") / "m")


@pytest.fixture(scope="module")
def llm(folder):
    return jaxpool.LLM(str(folder), data_parallel_size=1)


@pytest.fixture(scope="module")
def reference(folder):
    return models.QwenReference(folder, Qwen2VLModel)


def test_a_mix_of_texts_and_images(llm, reference):
    """Vectors, and coordinates, of each as torch has them alone."""
    asked = requests(llm, PROMPTS)
    for prompt, one, found in zip(PROMPTS, asked, vectors(llm, PROMPTS), strict=True):
        images = images_of(prompt)
        hidden = reference(one.ids, images)[-1]
        near(found, hidden / np.linalg.norm(hidden))
        if images:
            inputs = reference.inputs(one.ids, images)
            wanted, _ = reference.model.get_rope_index(
                inputs["input_ids"], inputs["mm_token_type_ids"], inputs["image_grid_thw"]
            )
            np.testing.assert_array_equal(one.coordinates, wanted[:, 0].numpy().T)


def test_prompts_are_as_their_caller_writes_them(llm):
    """Of a model whose words nobody knows; an instruction comes before its content."""
    image = "<|vision_start|><|image_pad|><|vision_end|>"
    (written,) = requests(llm, raw(f"Find: {image}abc", IMAGES[0]))
    (asked,) = requests(llm, {"text": "abc", "image": IMAGES[0]}, prompt="Find: ")
    np.testing.assert_array_equal(written.ids, asked.ids)
    encode = llm.model.tokenizer.fast.encode
    assert requests(llm, "abc", prompt="Find: ")[0].ids.tolist() == encode("Find: abc").ids


@pytest.fixture(scope="module")
def gme(folder, tmp_path_factory):
    """The same weights under the names of newer files, in a config.json of one level."""
    new = tmp_path_factory.mktemp("gme") / "gme-Qwen2-VL-2B-Instruct"
    new.mkdir()
    for file in folder.iterdir():
        (new / file.name).write_bytes(file.read_bytes())
    tensors = load_file(folder / "model.safetensors")
    assert {"visual.merger.ln_q.weight", "model.norm.weight"} <= tensors.keys()
    renamed = {
        "model." + name if name.startswith("visual.") else f"model.language_{name}": tensor
        for name, tensor in tensors.items()
    }
    save_file(renamed, new / "model.safetensors", {"format": "pt"})
    config = json.loads((new / "config.json").read_text())
    config |= config.pop("text_config") | {
        "model_type": "qwen2_vl",
        "architectures": ["GmeQwen2VL"],
    }
    (new / "config.json").write_text(json.dumps(config))
    return jaxpool.load(str(new), data_parallel_size=1)


def test_names_of_either_release(gme, llm):
    assert gme.checkpoint.arch == llm.model.checkpoint.arch
    jax.tree.map(np.testing.assert_array_equal, gme.params, llm.model.params)


def test_the_words_of_gme(gme):
    """Those of its card, an instruction in its place, and its limits of pixels."""
    assert gme.processor.resize.most == 1280 * 28**2
    prompt = "<|im_start|>system\n{}<|im_end|>\n<|im_start|>user\n{}<|im_end|>\n"
    prompt += "<|im_start|>assistant\n<|endoftext|>"
    encode = gme.tokenizer.fast.encode
    (plain,) = gme.requests(gme.task("embed"), "abc")
    assert plain.ids.tolist() == encode(prompt.format("You are a helpful assistant.", "abc")).ids
    (asked,) = gme.requests(gme.task("embed"), {"text": "abc", "image": IMAGES[0]}, prompt="Find.")
    content = "<|vision_start|><|image_pad|><|vision_end|>abc"
    (wanted,) = gme.requests(gme.task("embed"), raw(prompt.format("Find.", content), IMAGES[0]))
    np.testing.assert_array_equal(asked.ids, wanted.ids)


def test_gme_counts_the_tokens_of_images(gme, reference):
    """As its authors' code, which gives its model no grid of an image."""
    small = {"mm_processor_kwargs": {"min_pixels": 16**2, "max_pixels": 96**2}}
    prompt = {"text": "abc", "image": IMAGES[0]} | small
    (asked,) = gme.requests(gme.task("embed"), prompt)
    inputs = reference.inputs(asked.ids, [IMAGES[0]])
    places = torch.arange(len(asked.ids)).expand(3, 1, -1)
    with torch.no_grad():
        hidden = reference.model(**inputs, position_ids=places).last_hidden_state[0, -1].numpy()
    near(gme.encode(prompt), hidden / np.linalg.norm(hidden))
