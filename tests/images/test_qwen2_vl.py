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


def named(folder, tmp_path_factory, name: str):
    """The same files in a folder of another name."""
    link = tmp_path_factory.mktemp("named") / name
    link.symlink_to(folder)
    return link


@pytest.fixture(scope="module")
def dse(folder, tmp_path_factory):
    return jaxpool.load(
        str(named(folder, tmp_path_factory, "dse-qwen2-2b-mrl-v1")), data_parallel_size=1
    )


PAGE = "<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n<|im_start|>user\n"
PAGE += "<|vision_start|>{}<|vision_end|>{}<|im_end|>\n<|im_start|>assistant\n<|endoftext|>"


def test_the_words_of_dse(dse):
    """A text stands after a black image: as a query, unless it is said to be a document."""
    task, decode = dse.task("embed"), dse.tokenizer.fast.decode
    assert dse.processor.resize.most == 2560 * 28**2
    for text, options in (("Query: abc", {}), ("Document: abc", {"input_type": "document"})):
        (one,) = dse.requests(task, "abc", **options)
        count = len(one.pictures[0].patches)
        assert not one.pictures[0].patches.any()
        wanted = PAGE.format("<|image_pad|>" * (count // 4), text)
        assert decode(one.ids, skip_special_tokens=False) == wanted
    (one,) = dse.requests(task, {"image": IMAGES[0]})
    end = "What is shown in this image?" + PAGE.split("{}")[2]
    assert decode(one.ids, skip_special_tokens=False).endswith(end)


@pytest.mark.slow
def test_vectors_of_dse(dse, reference):
    (one,) = dse.requests(dse.task("embed"), "abc")
    hidden = reference(one.ids, [np.zeros((56, 56, 3), np.uint8)])[-1]
    near(dse.encode("abc"), hidden / np.linalg.norm(hidden))


def reranker(folder, new) -> dict:
    """Write jina-reranker-m0: the same tensors, and two linear layers for the answer."""
    new.mkdir()
    for file in folder.iterdir():
        (new / file.name).write_bytes(file.read_bytes())
    rng = np.random.default_rng(0)
    tensors = load_file(folder / "model.safetensors")
    for name, shape in (("0", (32, 32)), ("2", (1, 32))):
        tensors[f"score.{name}.weight"] = rng.normal(0, 0.3, shape).astype(np.float32)
        tensors[f"score.{name}.bias"] = rng.normal(0, 0.3, shape[:1]).astype(np.float32)
    save_file(tensors, new / "model.safetensors", {"format": "pt"})
    config = json.loads((new / "config.json").read_text())
    (new / "config.json").write_text(json.dumps(config | {"architectures": ["JinaVLForRanking"]}))
    return tensors


@pytest.fixture(scope="module")
def m0(folder, tmp_path_factory):
    new = tmp_path_factory.mktemp("m0") / "reranker"
    tensors = reranker(folder, new)
    return jaxpool.LLM(str(new), data_parallel_size=1), tensors


def part(image) -> dict:
    return {"type": "image_pil", "image_pil": image}


@pytest.mark.slow
def test_scores_of_m0(m0, reference):
    """A document, then a query, images among them in that order; a token; two layers."""
    llm, tensors = m0
    query = {"content": [part(IMAGES[1]), {"type": "text", "text": "abc"}]}
    documents = [{"content": [part(IMAGES[0])]}, "a text"]
    found = llm.score(query, documents, use_tqdm=False)
    image = "<|vision_start|>{}<|vision_end|>"
    for one, images, text in zip(found, (IMAGES[:2], IMAGES[1:2]), (image, "a text"), strict=True):
        ids = np.array(one.prompt_token_ids)
        words = llm.model.tokenizer.fast.decode(ids[:-1], skip_special_tokens=False)
        wanted = f"**Document**:\n{text}\n**Query**:\n{image}abc"
        assert words.replace("<|image_pad|>", "") == wanted.replace("{}", "") and ids[-1] == 100
        hidden = np.maximum(
            reference(ids, images)[-1] @ tensors["score.0.weight"].T + tensors["score.0.bias"], 0
        )
        (logit,) = tensors["score.2.weight"] @ hidden + tensors["score.2.bias"]
        np.testing.assert_allclose(one.outputs.score, 1 / (1 + np.exp(2.65 - logit)), rtol=2e-4)
