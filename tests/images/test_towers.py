"""Models of two towers against transformers' torch models: texts, pictures of odd sizes, mixes."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from safetensors.numpy import load_file

import jaxpool
from converters.checkpoint import open_checkpoint
from converters.report import CheckpointError
from jaxpool import PoolingParams
from jaxpool.engine import planner
from jaxpool.engine.batch import Request
from jaxpool.nn.transformer import forward
from jaxpool.nn.vision import _taps
from tests.images import models
from tests.images.photos import photo, photos
from tests.parity import cosine

KINDS = list(models.KINDS)
TEXTS = ["a photo of a cat", "dog", "two words, and some more words beside those two"]
RAW = PoolingParams(use_activation=False)
SHARE = 2e-4  # of the largest value


def near(found, wanted) -> None:
    found, wanted = np.asarray(found), np.asarray(wanted)
    assert cosine(found, wanted) >= 0.99999
    assert np.abs(found - wanted).max() <= SHARE * np.abs(wanted).max()


def vectors(llm, prompts, **options) -> list[np.ndarray]:
    outputs = llm.embed(prompts, use_tqdm=False, **options)
    return [np.array(output.outputs.embedding) for output in outputs]


def of(image) -> dict:
    return {"prompt": "", "multi_modal_data": {"image": image}}


@pytest.mark.parametrize("kind", KINDS)
def test_a_mix_of_texts_and_pictures(kind, towers, loaded):
    """Each has the vector that torch gives it alone, in the order of the call."""
    reference, llm = models.Reference(towers(kind), kind), loaded(kind)
    images = photos()
    prompts = [prompt for pair in zip(map(of, images), TEXTS, strict=False) for prompt in pair]
    prompts += [of(image) for image in images[len(TEXTS) :]]
    tokens = llm.model.tokenizer(TEXTS)
    wanted = {id(image): reference.picture(image) for image in images}
    texts = iter([reference.text(t.ids) for t in tokens])
    for prompt, found in zip(prompts, vectors(llm, prompts, pooling_params=RAW), strict=True):
        image = prompt["multi_modal_data"]["image"] if isinstance(prompt, dict) else None
        near(found, next(texts) if image is None else wanted[id(image)])


@pytest.mark.parametrize("kind", KINDS)
def test_vectors_have_length_one_unless_asked(kind, loaded):
    for vector in vectors(loaded(kind), [of(photo(60, 70)), "text"]):
        np.testing.assert_allclose(np.linalg.norm(vector), 1.0, atol=1e-6)


@pytest.mark.parametrize("kind", KINDS)
def test_round_trip(kind, towers, tmp_path):
    """HF folder -> ours -> HF folder: every tensor in use comes back bit by bit, and the others."""
    checkpoint = open_checkpoint(towers(kind))
    params = checkpoint.read(np.float32, lambda path, array: jnp.asarray(array))
    checkpoint.write(params, tmp_path)
    before, after = (load_file(f / "model.safetensors") for f in (towers(kind), tmp_path))
    assert before.keys() == after.keys()
    for name, tensor in before.items():
        np.testing.assert_array_equal(tensor, after[name])
    assert (tmp_path / "preprocessor_config.json").is_file()


@pytest.mark.parametrize("kind", ["clip", pytest.param("siglip2", marks=pytest.mark.slow)])
def test_pure_functions(kind, towers):
    """`forward(params, batch, arch)` takes patches, is the same unrolled, and has gradients."""
    model = jaxpool.load(str(towers(kind)), data_parallel_size=1)
    image = photo(70, 90)
    request = Request(np.zeros(1, np.int32), picture=model.processor(image))
    length = model.picture_engine.buckets[0]
    (plan,) = planner.plan([length], (length,), 512)
    batch, _ = model.picture_engine.fill((), plan, [request])
    compute = jax.jit(forward, static_argnums=(2, 3))
    hidden = compute(model.params, batch, model.arch, False)
    assert hidden.shape == (1, length, model.arch.vision.dim)
    np.testing.assert_allclose(compute(model.params, batch, model.arch, True), hidden, atol=1e-5)
    seen = batch.segments[..., None]

    def loss(params):
        return jnp.sum(jnp.square(forward(params, batch, model.arch)) * seen.astype(np.float32))

    grads = jax.jit(jax.grad(loss))(model.params)
    kernel = grads["vision"]["embed"]["patch"]["kernel"]
    assert np.isfinite(kernel).all() and np.abs(kernel).max() > 0
    text = jaxpool.pad([[5, 6, 7]])
    assert forward(model.params, text, model.arch).shape[-1] == model.arch.dim


@pytest.mark.parametrize("eos", [2, None])
def test_the_first_end_of_text_is_pooled(eos, tmp_path):
    """Also where the text contains one, and where an old file names a wrong one."""
    folder = models.save(tmp_path / "clip", "clip", {"vocab_size": 514})
    end = models.add_clip_tokenizer(folder)
    ends = {"eos_token_id": end if eos is None else eos}
    models.save(folder, "clip", {"vocab_size": 514} | ends)
    models.add_clip_tokenizer(folder)
    llm, reference = (
        jaxpool.LLM(str(folder), data_parallel_size=1),
        models.Reference(folder, "clip"),
    )
    texts = ["A cat ", "two <|endoftext|> ends", ""]
    tokens = llm.model.tokenizer(texts)
    assert all(t.ids[-1] == end for t in tokens) and (tokens[1].ids == end).sum() == 2
    for t, found in zip(tokens, vectors(llm, texts, pooling_params=RAW), strict=True):
        near(found, reference.text(t.ids))


def test_siglip_reads_padding(loaded):
    """A text is padded to the length of training, however it comes."""
    llm = loaded("siglip")
    ids = llm.model.tokenizer(["Dog"])[0].ids.tolist()
    plain, upper, given, shorter = vectors(llm, ["Dog", "DOG", {"prompt_token_ids": ids}, ids])
    np.testing.assert_array_equal(plain, upper)
    np.testing.assert_array_equal(plain, given)
    np.testing.assert_array_equal(plain, shorter)
    score = llm.score("Dog", "Dog", use_tqdm=False)[0]
    np.testing.assert_allclose(score.outputs.score, 1.0, atol=1e-6)
    found = llm.embed("Dog", use_tqdm=False)[0]
    assert len(found.prompt_token_ids) == models.LENGTH


def test_taps_are_those_of_torch():
    """Weights of a table stretched over a grid, smaller and larger than it."""
    import torch

    table = np.random.default_rng(0).normal(size=(7, 7)).astype(np.float32)
    for rows, cols in ((3, 12), (7, 7), (1, 20), (5, 2)):
        places = [_taps(np.arange(n), np.full(n, n), 7) for n in (rows, cols)]
        found = places[0] @ table @ places[1].T
        wanted = torch.nn.functional.interpolate(
            torch.tensor(table)[None, None], (rows, cols), mode="bilinear", antialias=True
        )[0, 0]
        np.testing.assert_allclose(found, wanted, atol=1e-6)


def test_a_processor_that_does_not_fit_the_tower(tmp_path):
    folder = models.save(tmp_path / "clip", "clip")
    (folder / "preprocessor_config.json").unlink()
    with pytest.raises(
        CheckpointError, match=r"\(224, 224\) pixels have 256 patches.*tower has 16"
    ):
        open_checkpoint(folder)
    (folder / "preprocessor_config.json").write_text(
        '{"image_processor_type": "NewImageProcessor"}'
    )
    with pytest.raises(
        CheckpointError, match="NewImageProcessor is not known, nor to transformers"
    ):
        open_checkpoint(folder)


def small(image, patches: int) -> dict:
    return of(image) | {"mm_processor_kwargs": {"max_num_patches": patches}}


def test_pictures_of_few_patches_share_rows(towers, loaded):
    """Each has the vector that it has alone, whatever lies beside it; little is padding."""
    folder = towers("siglip2")
    given = {"mm_processor_kwargs": {"max_num_patches": 256}}
    wide = jaxpool.LLM(str(folder), data_parallel_size=1, **given)
    engine = wide.model.picture_engine
    assert engine.buckets == (128, 192, 256)
    rng = np.random.default_rng(0)
    sizes = np.exp(rng.uniform(np.log(30), np.log(600), (24, 2))).astype(int)
    prompts = [small(photo(*size, i), (30, 64, 256)[i % 3]) for i, size in enumerate(sizes)]
    requests = wide.model.requests(wide.model.task("embed"), prompts)
    plans, _ = engine.plan(requests)
    assert sorted(i for plan in plans for i in plan.request) == list(range(len(requests)))
    assert max(plan.segment.max() for plan in plans) > 2
    assert all((plan.rows, plan.length) in engine.shapes for plan in plans)
    found = vectors(wide, prompts)
    assert engine.real_tokens >= 0.85 * engine.computed_tokens
    narrow = loaded("siglip2")
    for i in range(0, len(prompts), 3):
        np.testing.assert_allclose(found[i], vectors(narrow, prompts[i : i + 1])[0], atol=1e-5)


def test_little_padding_on_a_mix_of_photo_sizes(loaded):
    """Sides between 30 and 1,000 pixels: SigLIP2 scales each to its budget of patches."""
    engine = loaded("siglip2").model.picture_engine
    sides = np.exp(np.random.default_rng(0).uniform(np.log(30), np.log(1000), (48, 2)))
    real, computed = engine.real_tokens, engine.computed_tokens
    loaded("siglip2").model.encode([photo(int(w), int(h), 7) for w, h in sides])
    assert (engine.real_tokens - real) / (engine.computed_tokens - computed) >= 0.85
