"""Models of pictures alone against transformers' torch models: DINOv2, ViT, image classifiers."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from safetensors.numpy import load_file

import jaxpool
from converters.checkpoint import open_checkpoint
from converters.report import CheckpointError
from jaxpool import PoolingParams
from jaxpool.errors import RequestError
from jaxpool.nn.vision import _sharp_taps, _taps
from tests.images import towers
from tests.images.photos import photo, photos
from tests.parity import cosine

FAST = ("dinov2", "registers-classifier", "clip-classifier")
KINDS = [
    kind if kind in FAST else pytest.param(kind, marks=pytest.mark.slow) for kind in towers.KINDS
]
SMALL = {"data_parallel_size": 1, "max_num_batched_tokens": 64}
SHARP = partial(_sharp_taps, side=7)
RAW = PoolingParams(use_activation=False)
SHARE = 2e-4  # of the largest value


def of(image, text: str = "") -> dict:
    return {"prompt": text, "multi_modal_data": {"image": image}}


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """`folders(kind)`: the folder of a model, made once."""
    made = {}

    def find(kind):
        if kind not in made:
            made[kind] = towers.save(tmp_path_factory.mktemp(kind), kind)
        return made[kind]

    return find


def near(found, wanted) -> None:
    assert cosine(found, wanted) >= 0.99999
    assert np.abs(found - wanted).max() <= SHARE * np.abs(wanted).max()


def results(llm, images) -> list[np.ndarray]:
    prompts = [of(image) for image in images]
    found = llm.encode(prompts, pooling_task=llm.pooling_task, pooling_params=RAW, use_tqdm=False)
    return [np.asarray(one.outputs.data) for one in found]


@pytest.mark.parametrize("kind", KINDS)
def test_same_as_transformers(kind, folders):
    """Vectors and logits of pictures of odd sizes."""
    llm = jaxpool.LLM(str(folders(kind)), **SMALL)
    reference = towers.Reference(folders(kind), kind)
    for image, found in zip(photos(), results(llm, photos()), strict=True):
        near(found, reference(image))


@pytest.mark.parametrize("kind", ["registers", "dinov2-gated", "siglip-classifier"])
def test_round_trip(kind, folders, tmp_path):
    """HF folder -> ours -> HF folder: every tensor comes back bit by bit, also those not in use."""
    checkpoint = open_checkpoint(folders(kind))
    params = checkpoint.read(np.float32, lambda path, array: jnp.asarray(array))
    checkpoint.write(params, tmp_path)
    before, after = (load_file(f / "model.safetensors") for f in (folders(kind), tmp_path))
    assert before.keys() == after.keys()
    for name, tensor in before.items():
        np.testing.assert_array_equal(tensor, after[name])


def test_classes(folders):
    """Probabilities by default, and the names of the classes."""
    llm = jaxpool.LLM(str(folders("vit-classifier")), **SMALL)
    assert llm.supported_tasks == ("classify",)
    (found,) = llm.classify(of(photo(60, 70)), use_tqdm=False)
    logits = towers.Reference(folders("vit-classifier"), "vit-classifier")(photo(60, 70))
    wanted = np.exp(logits - logits.max()) / np.exp(logits - logits.max()).sum()
    np.testing.assert_allclose(found.outputs.probs, wanted, atol=1e-5)
    assert llm.model_config.id2label == {0: "cat", 1: "dog", 2: "house"}


def test_vectors_of_pictures(folders):
    """Normalized, and those of smaller pictures where a load asks for them."""
    folder = str(folders("dinov2"))
    llm = jaxpool.LLM(folder, **SMALL)
    assert llm.supported_tasks == ("embed",) and llm.model_config.embedding_size == 32
    images = photos()[:3]
    vectors = llm.model.encode(images)
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=-1), 1.0, atol=1e-6)
    crop = {"crop_size": {"height": 42, "width": 42}}
    smaller = jaxpool.load(folder, mm_processor_kwargs=crop, **SMALL)
    assert smaller.picture_engine.buckets == (9 + 1,)
    assert not np.allclose(smaller.encode(images), vectors, atol=1e-3)


def test_smaller_pictures_of_a_call(folders):
    """Each is alone in its row, and has the vector of a model that was loaded for its size."""
    sides = (28, 42, 56, 28)
    crops = [{"crop_size": {"height": side, "width": side}} for side in sides]
    prompts = [of(i) | {"mm_processor_kwargs": c} for i, c in zip(photos(), crops, strict=False)]
    found = jaxpool.load(str(folders("dinov2")), **SMALL).encode(prompts)
    for image, crop, vector in zip(photos(), crops[:2], found, strict=False):
        alone = jaxpool.load(str(folders("dinov2")), mm_processor_kwargs=crop, **SMALL)
        np.testing.assert_allclose(vector, alone.encode(image), atol=1e-5)


def test_what_is_refused(folders, tmp_path):
    llm = jaxpool.LLM(str(folders("dinov2")), **SMALL)
    for prompt in ("a text", [1, 2], {"prompt_token_ids": [1]}):
        with pytest.raises(RequestError, match="this model reads images alone"):
            llm.embed([prompt], use_tqdm=False)
    with pytest.raises(RequestError, match="not both"):
        llm.embed(of(photo(20, 30), "a text"), use_tqdm=False)
    folder = towers.save(tmp_path / "open", "dinov2")
    (folder / "preprocessor_config.json").write_text(
        '{"image_processor_type": "BitImageProcessor", "do_center_crop": false}'
    )
    with pytest.raises(CheckpointError, match="may be of any size"):
        open_checkpoint(folder)


def test_cubic_taps_are_those_of_torch():
    """With antialiasing and without, onto grids smaller and larger than the table."""
    import torch

    table = np.random.default_rng(0).normal(size=(7, 7)).astype(np.float32)
    for rows, cols in ((3, 12), (20, 5)):
        for antialias in (False, True):
            taps = jax.jit(partial(_taps, side=7, cubic=True) if antialias else SHARP)
            down, along = (taps(np.arange(n), np.full(n, n)) for n in (rows, cols))
            wanted = torch.nn.functional.interpolate(
                torch.tensor(table)[None, None], (rows, cols), mode="bicubic", antialias=antialias
            )[0, 0]
            np.testing.assert_allclose(down @ table @ along.T, wanted, atol=1e-5)


def test_no_compile_after_warm_up(folders):
    llm = jaxpool.LLM(str(folders("dinov2-classifier")), warmup=True, forbid_compiles=True, **SMALL)
    for count in (1, 3, 20, 7):
        images = [photo(30 + i, 50, i) for i in range(count)]
        assert len(llm.classify([of(image) for image in images], use_tqdm=False)) == count
