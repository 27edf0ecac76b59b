"""jina-embeddings-v4 and nomic-embed-multimodal: Qwen2.5-VL with adapters, in their authors' words.

The references are made of transformers' Qwen2.5-VL, as modeling_jina_embeddings_v4.py and
custom_lora_module.py beside jina-embeddings-v4 do it, and colpali-engine's BiQwen2_5.
"""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file
from transformers import Qwen2_5_VLModel

import jaxpool
from jaxpool.errors import RequestError
from tests.images import joined_models as models
from tests.images.photos import photo
from tests.images.test_joined import images_of, requests
from tests.images.test_towers import near, vectors

TASKS, RANK, WIDTH = ("retrieval", "text-matching", "code"), 3, 12
IMAGES = [photo(*size, seed) for seed, size in enumerate(((131, 83), (31, 97)))]
PROMPTS = ["a text by itself", {"image": IMAGES[0]}, {"text": "What is 語?", "image": IMAGES[1]}]
ADAPTED = ("self_attn.q_proj", "self_attn.v_proj", "self_attn.o_proj", "mlp.down_proj")
IMAGE = "<|vision_start|><|image_pad|><|vision_end|>"


def unit(x: np.ndarray) -> np.ndarray:
    return x / np.linalg.norm(x, axis=-1, keepdims=True)


def adapter(base: dict, folder: Path, tasks=("",)) -> dict[str, dict]:
    """Write an adapter of some tasks to a folder; the tensors of the base with each of them."""
    rng, written, merged = np.random.default_rng(1), {}, {}
    for task in tasks:
        merged[task] = dict(base)
        for name, tensor in base.items():
            module = name.removesuffix(".weight")
            if "visual" in name or not module.endswith((*ADAPTED, "multi_vector_projector")):
                continue
            a, b = (rng.normal(0, 0.3, s) for s in ((RANK, tensor.shape[1]), (len(tensor), RANK)))
            merged[task][name] = (tensor + 2.0 * b @ a).astype(np.float32)
            stem, end = f"base_model.model.{module}", f".{task}".rstrip(".") + ".weight"
            written[f"{stem}.lora_A{end}"] = a.astype(np.float32)
            written[f"{stem}.lora_B{end}"] = b.astype(np.float32)
    folder.mkdir(parents=True, exist_ok=True)
    save_file(written, folder / "adapter_model.safetensors")
    facts = {"peft_type": "LORA", "r": RANK, "lora_alpha": 2 * RANK}
    (folder / "adapter_config.json").write_text(json.dumps(facts))
    return merged


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    return models.qwen2_5_vl(tmp_path_factory.mktemp("qwen2-5") / "m")


def publish(base: Path, folder: Path) -> dict[str, dict]:
    """Write the folder as it is published; its tensors with the adapter of each task merged."""
    shutil.copytree(base, folder)
    rng, tensors = np.random.default_rng(0), load_file(folder / "model.safetensors")
    tensors["multi_vector_projector.weight"] = rng.normal(0, 0.1, (WIDTH, 32)).astype(np.float32)
    tensors["multi_vector_projector.bias"] = rng.normal(0, 0.1, WIDTH).astype(np.float32)
    save_file(tensors, folder / "model.safetensors", {"format": "pt"})
    config = json.loads((folder / "config.json").read_text())
    config |= {"architectures": ["JinaEmbeddingsV4Model"], "task_names": list(TASKS)}
    (folder / "config.json").write_text(json.dumps(config | {"multi_vector_projector_dim": WIDTH}))
    return adapter(tensors, folder / "adapters", TASKS)


@pytest.fixture(scope="module")
def made(base, tmp_path_factory):
    """The folder, and what `publish` gives."""
    folder = tmp_path_factory.mktemp("jina") / "jina-embeddings-v4"
    return folder, publish(base, folder)


def merged_folder(base: Path, tensors: dict, folder: Path) -> Path:
    """A folder of plain Qwen2.5-VL with some tensors, as those for vLLM are."""
    shutil.copytree(base, folder)
    known = load_file(base / "model.safetensors")
    save_file({n: tensors[n] for n in known}, folder / "model.safetensors", {"format": "pt"})
    return folder


def pooled(hidden: np.ndarray, ids: np.ndarray) -> np.ndarray:
    """The mean of an image's tokens and the two around it, of all where there is none."""
    start, end = (np.flatnonzero(ids == models.IDS[f"<|vision_{x}|>"]) for x in ("start", "end"))
    return unit(hidden[start[0] : end[0] + 1].mean(0) if len(start) else hidden.mean(0))


@pytest.mark.parametrize(
    "task", ["retrieval", pytest.param("text-matching", marks=pytest.mark.slow)]
)
def test_vectors_of_a_task(task, made, base, tmp_path):
    """One vector and one a token, each with the adapter of the task."""
    folder, merged = made
    tensors = merged[task]
    reference = models.QwenReference(
        merged_folder(base, tensors, tmp_path / "merged"), Qwen2_5_VLModel
    )
    options = {"hf_overrides": {"jina_task": task}} if task != TASKS[0] else {}
    llm = jaxpool.LLM(str(folder), data_parallel_size=1, **options)
    asked, found = requests(llm, PROMPTS), vectors(llm, PROMPTS)
    every = llm.encode(PROMPTS, pooling_task="token_embed", use_tqdm=False)
    for prompt, one, vector, tokens in zip(PROMPTS, asked, found, every, strict=True):
        hidden = reference(one.ids, images_of(prompt))
        near(vector, pooled(hidden, one.ids))
        projected = hidden @ tensors["multi_vector_projector.weight"].T
        near(tokens.outputs.data, unit(projected + tensors["multi_vector_projector.bias"]))


def ids(llm, text: str, request=None) -> list[int]:
    """The ids of words, whose placeholder has as many tokens as the image of a request."""
    count = sum(p.rows * p.cols // 4 for p in request.pictures) if request else 1
    text = text.replace("<|image_pad|>", "<|image_pad|>" * count)
    return llm.model.tokenizer.fast.encode(text).ids


def check_words(llm, prompt, words: str, **options):
    (found,) = requests(llm, [prompt], **options)
    assert found.ids.tolist() == ids(llm, words, found)


def test_words(made):
    """Prefixes of texts, which a caller may have written; the words around an image."""
    folder, _ = made
    llm = jaxpool.LLM(str(folder), data_parallel_size=1)
    check_words(llm, "abc", "Query: abc")
    check_words(llm, "Passage: abc", "Passage: abc")
    check_words(llm, "abc", "Passage: abc", input_type="document")
    seen = f"<|im_start|>user\n{IMAGE}Describe the image.<|im_end|>\n"
    check_words(llm, {"image": IMAGES[0]}, seen)
    with pytest.raises(RequestError, match=r"At most 1 image\(s\)"):
        requests(llm, [{"image": IMAGES}])
    with pytest.raises(ValueError, match="jina_task 'poetry' is unknown; known: .'retrieval', 'te"):
        jaxpool.load(str(folder), hf_overrides={"jina_task": "poetry"})


def test_a_task_without_an_adapter(made, tmp_path):
    folder = tmp_path / "m"
    shutil.copytree(made[0], folder)
    adapter(load_file(folder / "model.safetensors"), folder / "adapters", TASKS[:2])
    with pytest.raises(FileNotFoundError, match="no LoRA adapter 'code' in .*adapters"):
        jaxpool.load(str(folder), hf_overrides={"jina_task": "code"})


@pytest.mark.slow
def test_merged_folders(made, base, tmp_path):
    """Those for vLLM: plain Qwen2.5-VL under a name that says the task; an exported one."""
    (folder, merged), task = made, "text-matching"
    plain = tmp_path / f"jina-embeddings-v4-vllm-{task}"
    merged_folder(base, merged[task], plain)
    llm = jaxpool.LLM(str(plain), data_parallel_size=1)
    check_words(llm, "abc", "Query: abc", input_type="document")
    with pytest.raises(ValueError, match="adapter of 'text-matching' is merged"):
        jaxpool.load(str(plain), hf_overrides={"jina_task": "code"}).conversation  # noqa: B018
    options = {"hf_overrides": {"jina_task": task}, "data_parallel_size": 1}
    wanted = jaxpool.LLM(str(folder), **options)
    for a, b in zip(vectors(llm, PROMPTS), vectors(wanted, PROMPTS), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-6)
    wanted.model.export(tmp_path / "exported")
    kernels = [
        next(x for name, x in each.items() if name.endswith("layers.0.mlp.down_proj.weight"))
        for each in (load_file(tmp_path / "exported" / "model.safetensors"), merged[task])
    ]
    np.testing.assert_allclose(*kernels, atol=1e-6)
    again = jaxpool.load(str(tmp_path / "exported"), data_parallel_size=1)
    check_words(jaxpool.LLM(str(tmp_path / "exported"), data_parallel_size=1), "abc", "Query: abc")
    with pytest.raises(ValueError, match="adapters/text-matching is merged into these weights"):
        jaxpool.load(str(tmp_path / "exported"), hf_overrides={"jina_task": "code"})
    assert again.arch == wanted.model.arch


@pytest.mark.parametrize("published", ["adapter", pytest.param("whole", marks=pytest.mark.slow)])
def test_nomic(published, base, tmp_path):
    """An adapter of plain Qwen2.5-VL, or the whole: the last token of a page or a text."""
    folder = tmp_path / "nomic-embed-multimodal-3b"
    tensors = adapter(load_file(base / "model.safetensors"), folder)[""]
    plain = merged_folder(base, tensors, tmp_path / "merged")
    if published == "adapter":
        facts = json.loads((folder / "adapter_config.json").read_text())
        facts["base_model_name_or_path"] = str(base)
        (folder / "adapter_config.json").write_text(json.dumps(facts))
        models.add_tokenizer(folder)
    else:
        folder = plain
        config = json.loads((plain / "config.json").read_text()) | {"architectures": ["BiQwen2_5"]}
        (plain / "config.json").write_text(json.dumps(config))
    llm = jaxpool.LLM(str(folder), data_parallel_size=1)
    check_words(llm, "abc", "Query: abc<|endoftext|>")
    check_words(llm, "abc", "abc<|endoftext|>", input_type="document")
    seen = f"<|im_start|>user\n{IMAGE}Describe the image.<|im_end|><|endoftext|>"
    check_words(llm, {"image": IMAGES[0]}, seen)
    reference = models.QwenReference(plain, Qwen2_5_VLModel)
    for prompt, one, found in zip(
        PROMPTS, requests(llm, PROMPTS), vectors(llm, PROMPTS), strict=True
    ):
        near(found, unit(reference(one.ids, images_of(prompt))[-1]))
