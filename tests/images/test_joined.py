"""Models that read images among the tokens of a text, against transformers' torch models."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from safetensors.numpy import load_file
from transformers import Qwen3VLModel

import jaxpool
from converters.checkpoint import open_checkpoint
from jaxpool.engine.joined import pad
from jaxpool.errors import RequestError
from jaxpool.nn.transformer import forward
from tests.images import joined_models as models
from tests.images.photos import encoded, photo
from tests.images.test_towers import near, vectors

IMAGES = [photo(*size, seed) for seed, size in enumerate(((131, 83), (24, 40), (31, 97), (64, 7)))]
LITERAL = "What is <|image_pad|> in 語?"
PROMPTS = [
    "a text by itself",
    {"image": IMAGES[0]},
    {"text": LITERAL, "image": IMAGES[1]},
    "another " * 9,
    {"text": "two of them", "image": IMAGES[2:]},
]


@pytest.fixture(scope="session")
def qwen3_vl(tmp_path_factory):
    return models.qwen3_vl(tmp_path_factory.mktemp("qwen3-vl") / "m")


@pytest.fixture(scope="session")
def llm(qwen3_vl):
    return jaxpool.LLM(str(qwen3_vl), data_parallel_size=1)


@pytest.fixture(scope="session")
def reference(qwen3_vl):
    return models.QwenReference(qwen3_vl, Qwen3VLModel)


def images_of(prompt) -> list:
    image = prompt["image"] if isinstance(prompt, dict) else []
    return image if isinstance(image, list) else [image]


def raw(text: str, images) -> dict:
    return {"prompt": text, "multi_modal_data": {"image": images}}


def requests(llm, prompts, **options):
    return llm.model.requests(llm.model.task("embed"), prompts, **options)


def test_a_mix_of_texts_and_images(llm, reference):
    """Each has the vector that torch gives it alone, in the order of the call."""
    asked = requests(llm, PROMPTS)
    for prompt, one, found in zip(PROMPTS, asked, vectors(llm, PROMPTS), strict=True):
        hidden = reference(one.ids, images_of(prompt))[-1]
        near(found, hidden / np.linalg.norm(hidden))


def test_pixels_ids_and_positions(llm, reference):
    """What transformers makes of the same prompts: patches to the last bit, three coordinates."""
    processor = llm.model.processor
    for prompt, one in zip(PROMPTS, requests(llm, PROMPTS), strict=True):
        if not (images := images_of(prompt)):
            continue
        inputs = reference.inputs(one.ids, images)
        wanted, _ = reference.model.get_rope_index(
            inputs["input_ids"], inputs["mm_token_type_ids"], inputs["image_grid_thw"]
        )
        np.testing.assert_array_equal(one.coordinates, wanted[:, 0].numpy().T)
        assert [[1, p.rows, p.cols] for p in one.pictures] == inputs["image_grid_thw"].tolist()
        patches = np.concatenate([p.patches for p in one.pictures])
        oracle = reference.processor
        values = oracle.rescale(patches.reshape(-1, 3).T, oracle.rescale_factor)
        values = oracle.normalize(values[:, None], oracle.image_mean, oracle.image_std)[:, 0]
        side = processor.patch
        squares = values.T.reshape(len(patches), side, side, 3).transpose(0, 3, 1, 2)
        twice = np.broadcast_to(squares[:, :, None], (len(patches), 3, 2, side, side))
        found = inputs["pixel_values"].numpy()
        np.testing.assert_array_equal(twice.reshape(found.shape), found)


def test_the_words_of_the_card(llm):
    """The conversation is found, an instruction takes its place in it, and written prompts stay."""
    text = (
        "<|im_start|>system\nRepresent the user's input.<|im_end|>\n<|im_start|>user\n{}<|im_end|>"
    )
    text += "\n<|im_start|>assistant\n"
    image = "<|vision_start|><|image_pad|><|vision_end|>"
    (plain,), (asked,) = requests(llm, "abc"), requests(llm, "abc", prompt="Find it")
    encode = llm.model.tokenizer.fast.encode
    assert plain.ids.tolist() == encode(text.format("abc")).ids
    told = text.replace("Represent the user's input.", "Find it")
    assert asked.ids.tolist() == encode(told.format("abc")).ids
    np.testing.assert_array_equal(requests(llm, told.format("abc"))[0].ids, asked.ids)
    given = requests(llm, raw(told.format(image + "abc"), IMAGES[0]), prompt="Other")[0]
    parts = requests(llm, {"text": "abc", "image": IMAGES[0]}, prompt="Find it")[0]
    np.testing.assert_array_equal(given.ids, parts.ids)


def test_a_placeholder_within_a_text_is_text(llm):
    token = models.IDS["<|image_pad|>"]
    for prompt in (LITERAL, {"text": LITERAL, "image": IMAGES[1]}):
        (one,) = requests(llm, prompt)
        count = sum(picture.vectors for picture in one.pictures)
        assert (one.ids == token).sum() == count
        assert LITERAL in llm.model.tokenizer.fast.decode(one.ids, skip_special_tokens=False)


@pytest.mark.parametrize(
    "prompt,message",
    [
        (raw("no place", IMAGES[0]), "Found fewer .* 0 for 1 image"),
        (raw("<|image_pad|><|image_pad|>", IMAGES[0]), "Found more .* 2 for 1 image"),
        (raw("<|image_pad|>", IMAGES[:2]), "Found fewer .* 1 for 2 image"),
        ({"prompt_token_ids": [models.IDS["<|image_pad|>"]]}, "Found more .* 1 for 0 image"),
        ("<|im_start|>system\n<|image_pad|>", "Found more .* 1 for 0 image"),
        ({"image": photo(1, 300)}, "aspect ratio"),
        ({"image": b"no image"}, "Failed to load image"),
    ],
)
def test_what_does_not_fit(llm, prompt, message):
    with pytest.raises(RequestError, match=message):
        requests(llm, prompt)


def test_where_images_may_come_from(llm, qwen3_vl, tmp_path):
    """Texts beside a URL change nothing about where it may lead."""
    for link, message in (
        ("https://example.com/a.png", "one of the allowed domains"),
        ("file:///etc/passwd", "Cannot load local files without"),
        ("data:text/plain;base64,aGVsbG8=", "wanted an image"),
    ):
        part = {"type": "image_url", "image_url": {"url": link}}
        for ask in (
            lambda: requests(llm, {"text": "abc", "image": link}),  # noqa: B023
            lambda: llm.score("abc", {"content": [part]}, use_tqdm=False),  # noqa: B023
        ):
            with pytest.raises(RequestError, match=message):
                ask()
    (tmp_path / "a.png").write_bytes(encoded(IMAGES[1], "PNG"))
    options = {"allowed_local_media_path": str(tmp_path), "limit_mm_per_prompt": {"image": 1}}
    able = jaxpool.load(str(qwen3_vl), data_parallel_size=1, **options)
    link = (tmp_path / "a.png").as_uri()
    (found,) = able.requests(able.task("embed"), {"text": "abc", "image": link})
    (wanted,) = requests(llm, {"text": "abc", "image": IMAGES[1]})
    np.testing.assert_array_equal(found.pictures[0].patches, wanted.pictures[0].patches)
    with pytest.raises(RequestError, match=r"At most 1 image\(s\)"):
        able.requests(able.task("embed"), {"image": IMAGES[:2]})


def test_pixels_of_a_card(qwen3_vl, tmp_path):
    """What the code on a card says of sizes holds, unless a caller says it."""
    folder = tmp_path / "Qwen3-VL-Embedding-2B"
    folder.symlink_to(qwen3_vl)
    checkpoint = open_checkpoint(folder)
    own = checkpoint.processor_for({})
    least, most = 4 * 32**2, 1800 * 32**2
    assert (own.resize.least, own.resize.most) == (least, most)
    asked = {"resample": 2, "max_pixels": 32**2 * 9}
    found = checkpoint.processor_for(asked)
    assert (found.resample, found.resize.least, found.resize.most) == (2, least, 32**2 * 9)
    size = {"shortest_edge": 64**2, "longest_edge": 96**2}
    found = checkpoint.processor_for({"size": size})
    assert (found.resize.least, found.resize.most) == (64**2, 96**2)


def test_images_are_never_cut(llm):
    """What is cut is the text within the words around it; an image too long is refused."""
    prompt = {"text": "abcd " * 40, "image": IMAGES[0]}
    (whole,) = requests(llm, prompt)
    limit = len(whole.ids) - 30
    (cut,) = requests(llm, prompt, tokenization_kwargs={"truncate_prompt_tokens": limit})
    assert cut.cut and len(cut.ids) <= limit and (cut.soft >= 0).sum() == (whole.soft >= 0).sum()
    np.testing.assert_array_equal(cut.ids[-20:], whole.ids[-20:])
    short = jaxpool.load(str(llm.model.checkpoint.folder), max_model_len=64, data_parallel_size=1)
    with pytest.raises(RequestError, match="maximum context length is 64"):
        short.requests(short.task("embed"), {"image": IMAGES[0]})


@pytest.mark.slow
def test_one_batch_is_one_program(llm, reference):
    """Rows of texts and images together; unrolled the same; a gradient reaches every kernel."""
    model, asked = llm.model, requests(llm, PROMPTS)
    batch = pad(asked, model.arch)
    compute = jax.jit(forward, static_argnums=(2, 3))
    hidden = compute(model.params, batch, model.arch, False)
    np.testing.assert_allclose(compute(model.params, batch, model.arch, True), hidden, atol=1e-5)
    for row, (prompt, one) in enumerate(zip(PROMPTS, asked, strict=True)):
        near(hidden[row, : len(one.ids)], reference(one.ids, images_of(prompt)))

    def loss(params):
        hidden = forward(params, batch, model.arch, remat="inputs")
        return jnp.sum(jnp.square(hidden) * (batch.segments > 0)[..., None].astype(np.float32))

    grads = jax.jit(jax.grad(loss))(model.params)["vision"]
    for name in ("merger", "deep", "layers", "embed"):
        assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(grads[name]))
    assert all(np.abs(grads[name]["up"]["kernel"]).max() > 0 for name in ("merger", "deep"))


def test_round_trip(qwen3_vl, tmp_path):
    """HF folder -> ours -> HF folder: every tensor comes back bit by bit."""
    checkpoint = open_checkpoint(qwen3_vl)
    params = checkpoint.read(np.float32, lambda path, array: jnp.asarray(array))
    checkpoint.write(params, tmp_path)
    before, after = (load_file(f / "model.safetensors") for f in (qwen3_vl, tmp_path))
    assert before.keys() == after.keys()
    for name, tensor in before.items():
        np.testing.assert_array_equal(tensor, after[name])


@pytest.mark.slow
def test_token_vectors_of_images(llm, reference):
    found = llm.encode(PROMPTS, pooling_task="token_embed", use_tqdm=False)
    for prompt, one, output in zip(PROMPTS, requests(llm, PROMPTS), found, strict=True):
        hidden = reference(one.ids, images_of(prompt))
        near(output.outputs.data, hidden / np.linalg.norm(hidden, axis=-1, keepdims=True))


@pytest.mark.parametrize("kind", ["cosine", pytest.param("reranker", marks=pytest.mark.slow)])
def test_scores_of_contents(kind, llm, qwen3_vl, reference, tmp_path):
    """Queries and documents of texts and images: two vectors, or the answer "yes" over "no"."""
    query = {"content": [{"type": "text", "text": LITERAL}]}
    image = {"type": "image_pil", "image_pil": IMAGES[0]}
    documents = [{"content": [image, {"type": "text", "text": "abc"}]}, "a text"]
    if kind == "cosine":
        found = llm.score(query, documents, use_tqdm=False)
        prompts = [LITERAL, {"text": "abc", "image": IMAGES[0]}, "a text"]
        first, *others = vectors(llm, prompts)
        np.testing.assert_allclose([s.outputs.score for s in found], others @ first, atol=1e-5)
        return
    folder = tmp_path / "Qwen3-VL-Reranker-2B"
    folder.symlink_to(qwen3_vl)
    reranker = jaxpool.LLM(str(folder), data_parallel_size=1)
    found = reranker.score(query, documents, use_tqdm=False)
    words = "<|im_start|>user\n<Instruct>: Given a search query, retrieve relevant candidates that"
    words += f" answer the query.<Query>:{LITERAL}\n<Document>:"
    table = reference.model.get_input_embeddings().weight.detach().numpy()
    answers = table[[models.IDS["no"], models.IDS["yes"]]]
    for one, images, end in zip(found, ([IMAGES[0]], []), ("abc", "a text"), strict=True):
        ids = np.array(one.prompt_token_ids)
        no, yes = answers @ reference(ids, images)[-1]
        np.testing.assert_allclose(one.outputs.score, 1 / (1 + np.exp(no - yes)), rtol=2e-4)
        text = reranker.model.tokenizer.fast.decode(ids, skip_special_tokens=False)
        assert words in text and f"{end}<|im_end|>\n<|im_start|>assistant\n" in text
