"""EmbeddingGemma 2, alone and beside its tower, against transformers."""

import json
import re
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import (
    AutoImageProcessor,
    EmbeddingGemma2Config,
    EmbeddingGemma2Model,
    EmbeddingGemma2TextConfig,
    EmbeddingGemma2TextModel,
)

import jaxpool
from jaxpool.engine.joined import pad
from jaxpool.nn import params
from jaxpool.nn.transformer import forward
from tests import parity
from tests.images.joined_models import IDS, add_tokenizer, write_processor
from tests.images.photos import photo
from tests.images.test_joined import images_of, raw, requests
from tests.images.test_towers import near, vectors

ENDS = IDS["<|image>"], IDS["<image|>"]
TEXT = dict(
    vocab_size=len(IDS) + 3,
    hidden_size=32,
    intermediate_size=48,
    num_hidden_layers=4,
    num_attention_heads=4,
    num_key_value_heads=2,
    head_dim=8,
    global_head_dim=16,
    num_global_key_value_heads=1,
    sliding_window_pattern=2,
    sliding_window=5,
    hidden_size_per_layer_input=20,
    embedding_dim=28,
    max_position_embeddings=2048,
)
VISION = dict(
    model_type="gemma4_vision",
    hidden_size=48,
    intermediate_size=56,
    num_hidden_layers=2,
    num_attention_heads=4,
    num_key_value_heads=2,
    head_dim=8,
    patch_size=4,
    position_embedding_size=240,
)
IMAGES = [photo(*size, seed) for seed, size in enumerate(((131, 83), (24, 40), (3, 400), (64, 7)))]
PROMPTS = [
    "a text by itself, longer than two windows",
    {"image": IMAGES[0]},
    {"text": "What is <|image|> in 語?", "image": IMAGES[1]},
    raw("before <|image|>, between <|image|> after", IMAGES[2:]),
]


def randomize(folder) -> None:
    """Give the gains of layers, which are no parameters of torch's, values of their own."""
    tensors, rng = load_file(folder / "model.safetensors"), np.random.default_rng(1)
    for name in tensors:
        if name.endswith("layer_scalar"):
            tensors[name].fill_(rng.uniform(0.5, 1.5))
    save_file(tensors, folder / "model.safetensors", {"format": "pt"})


def save(folder):
    """The folder of a model."""
    config = EmbeddingGemma2Config(
        text_config=TEXT,
        vision_config=VISION,
        image_token_id=IDS["<|image|>"],
        boi_token_id=ENDS[0],
        eoi_token_id=ENDS[1],
    )
    randomize(parity.save_random(EmbeddingGemma2Model, config, folder))
    write_processor(folder, "Gemma4", patch_size=4, max_soft_tokens=70, pooling_kernel_size=3)
    add_tokenizer(folder, "<bos>", "<eos>", "<pad>")
    return folder


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return save(tmp_path_factory.mktemp("embedding-gemma2") / "m")


@pytest.fixture(scope="module")
def llm(folder):
    return jaxpool.LLM(str(folder), data_parallel_size=1)


class Reference:
    """The projected hidden states of transformers' model, one prompt at a time."""

    def __init__(self, folder):
        self.model = EmbeddingGemma2Model.from_pretrained(folder).eval()
        self.processor = AutoImageProcessor.from_pretrained(folder, backend="pil")

    @torch.no_grad()
    def __call__(self, ids: np.ndarray, images=()) -> np.ndarray:
        made = self.pixels(images) if images else {}
        made.pop("num_soft_tokens_per_image", None)
        ids = torch.tensor(ids[None].astype(np.int64))
        return self.model(input_ids=ids, **made).last_hidden_state[0].numpy()

    def pixels(self, images) -> dict:
        return dict(self.processor(list(images), return_tensors="pt"))


@pytest.fixture(scope="module")
def reference(folder):
    return Reference(folder)


def seen(prompt) -> list:
    """The images of a prompt in either form."""
    given = prompt.get("multi_modal_data", prompt) if isinstance(prompt, dict) else {}
    return images_of({"image": given.get("image", [])})


def test_a_mix_of_texts_and_images(llm, reference):
    """The mean of all tokens, those around images among them."""
    asked = requests(llm, PROMPTS)
    for prompt, one, found in zip(PROMPTS, asked, vectors(llm, PROMPTS), strict=True):
        mean = reference(one.ids, seen(prompt)).mean(axis=0)
        near(found, mean / np.linalg.norm(mean))


@pytest.mark.slow
def test_token_vectors(llm, reference):
    found = llm.encode(PROMPTS, pooling_task="token_embed", use_tqdm=False)
    for prompt, one, output in zip(PROMPTS, requests(llm, PROMPTS), found, strict=True):
        wanted = reference(one.ids, seen(prompt))
        near(output.outputs.data, wanted / np.linalg.norm(wanted, axis=-1, keepdims=True))


@pytest.mark.slow
def test_a_gradient_reaches_every_kernel(llm):
    """Through heads of both sizes, and what layers read again; scanned and unrolled the same."""
    model = llm.model
    batch = pad(requests(llm, PROMPTS[:2]), model.arch)
    compute = jax.jit(forward, static_argnums=(2, 3))
    np.testing.assert_allclose(
        compute(model.params, batch, model.arch, True),
        compute(model.params, batch, model.arch, False),
        atol=1e-5,
    )

    def loss(weights):
        hidden = forward(weights, batch, model.arch, remat="inputs")
        return jnp.sum(jnp.square(hidden) * (batch.segments > 0)[..., None].astype(np.float32))

    grads = jax.jit(jax.grad(loss))(model.params)
    for name, leaf in params.flatten({k: x for k, x in grads.items() if k != "heads"}).items():
        assert np.isfinite(leaf).all() and np.abs(leaf).max() > 0, name


@pytest.mark.slow
def test_a_published_folder(folder, llm, tmp_path):
    """With sentence-transformers' modules and a tower of sound: every tensor comes back."""
    published, exported = tmp_path / "published", tmp_path / "exported"
    shutil.copytree(folder, published)
    tensors = load_file(published / "model.safetensors")
    tensors["audio_tower.layers.0.norm_out.weight"] = torch.ones(3)
    save_file(tensors, published / "model.safetensors", {"format": "pt"})
    kinds = "transformer.Transformer", "pooling.Pooling", "normalize.Normalize"
    modules = [
        {"idx": i, "name": str(i), "path": f"{i}_{i}" if i else "", "type": f"a.modules.{kind}"}
        for i, kind in enumerate(kinds)
    ]
    (published / "1_1").mkdir()
    pooling = {"embedding_dimension": 28, "pooling_mode": "mean", "include_prompt": True}
    for name, content in (("modules.json", modules), ("1_1/config.json", pooling)):
        (published / name).write_text(json.dumps(content))
    found = jaxpool.LLM(str(published), data_parallel_size=1)
    for a, b in zip(vectors(found, PROMPTS), vectors(llm, PROMPTS), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-6)
    found.model.export(exported)
    again = load_file(exported / "model.safetensors")
    assert again.keys() == tensors.keys()
    assert all(torch.equal(again[name], tensor) for name, tensor in tensors.items())


def test_pixels_and_ids(llm, reference):
    """Patches to the last bit, for any shape; tokens as transformers' processor writes them."""
    for prompt, one in zip(PROMPTS, requests(llm, PROMPTS), strict=True):
        images = seen(prompt)
        if not images:
            continue
        made = reference.pixels(images)
        for i, picture in enumerate(one.pictures):
            places = made["image_position_ids"][i].numpy()
            order = np.lexsort((picture.grid[:, 1], picture.grid[:, 0]))
            patches = reference.processor.rescale(picture.patches[order], 1 / 255)
            np.testing.assert_array_equal(picture.grid[order][:, 1::-1], places[: len(patches)])
            np.testing.assert_array_equal(patches, made["pixel_values"][i][: len(patches)])
            assert (places[len(patches) :] == -1).all()
        signs = {ENDS[0]: "(", IDS["<|image|>"]: "i", ENDS[1]: ")"}
        runs = re.findall(r"\(i+\)", "".join(signs.get(token, ".") for token in one.ids))
        assert [len(run) - 2 for run in runs] == made["num_soft_tokens_per_image"].tolist()


def test_text_alone(tmp_path):
    """Its own model type; packed rows; windows on both sides."""
    config = EmbeddingGemma2TextConfig(**TEXT)
    folder = parity.save_random(EmbeddingGemma2TextModel, config, tmp_path / "text")
    randomize(folder)
    hf = EmbeddingGemma2TextModel.from_pretrained(folder).eval()
    wanted = parity.reference(hf, parity.texts(TEXT["vocab_size"]), False, "last_hidden_state")
    parity.check_packed(folder, wanted, "embed")


@pytest.mark.parametrize(
    "part,changes,message",
    [
        ("vision_config", {"use_clipped_linears": True}, "use_clipped_linears is not supported"),
        ("vision_config", {"standardize": True}, "standardize is not supported"),
        (
            "vision_config",
            {"position_embedding_size": 200},
            "210 patches long, but the tower has 200",
        ),
        ("text_config", {"per_layer_config": {"1": {"head_dim": 16}}}, "must have one head_dim"),
    ],
)
def test_what_is_not_known(folder, tmp_path, part, changes, message):
    shutil.copytree(folder, tmp_path, dirs_exist_ok=True)
    config = json.loads((folder / "config.json").read_text())
    config[part] |= changes
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(ValueError, match=message):
        jaxpool.load(str(tmp_path), data_parallel_size=1)
