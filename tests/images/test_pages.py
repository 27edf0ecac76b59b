"""Late interaction of queries and pages, against transformers' processors and torch models."""

import numpy as np
import pytest

import jaxpool
from jaxpool.errors import RequestError
from tests.images import page_models as models
from tests.images.photos import photo
from tests.images.test_towers import near

PAGES = [photo(*size, seed) for seed, size in enumerate(((131, 83), (31, 97), (64, 7)))]
QUERIES = ["What is it?", "a much longer query, of several words in 語"]
SLOW = {"colidefics3", "colqwen2", "nemotron"}
KINDS = [
    pytest.param(kind, marks=[pytest.mark.slow] if kind in SLOW else []) for kind in models.KINDS
]


@pytest.fixture(scope="module", params=KINDS)
def kind(request, tmp_path_factory):
    """A model, and what transformers has of it."""
    make, reference = models.KINDS[request.param]
    folder = make(tmp_path_factory.mktemp(request.param) / "m")
    return jaxpool.LLM(str(folder), data_parallel_size=1), reference(folder)


def requests(llm, prompts, **options):
    return llm.model.requests(llm.model.task("token_embed"), prompts, **options)


def page(image) -> dict:
    return {"content": [{"type": "image_pil", "image_pil": image}]}


def test_ids_are_those_of_the_processor(kind):
    llm, reference = kind
    for found, query in zip(requests(llm, QUERIES, input_type="query"), QUERIES, strict=True):
        np.testing.assert_array_equal(found.ids, reference.query(query)["input_ids"][0])
    found = requests(llm, [{"image": image} for image in PAGES], input_type="document")
    for one, image in zip(found, PAGES, strict=True):
        np.testing.assert_array_equal(one.ids, reference.page(image)["input_ids"][0])


def pixels(picture, side: int) -> np.ndarray:
    """The pixels `[3, height, width]` of a picture's patches."""
    whole = np.zeros((picture.rows * side, picture.cols * side, 3), picture.patches.dtype)
    for patch, (row, col, _, _) in zip(picture.patches, picture.grid, strict=True):
        here = slice(row * side, (row + 1) * side), slice(col * side, (col + 1) * side)
        whole[here] = patch.reshape(side, side, 3)
    return whole.transpose(2, 0, 1)


@pytest.mark.parametrize("kind", ["colmodernvbert", "colpali"], indirect=True)
@pytest.mark.parametrize("size", [(131, 83), (31, 97), (16, 16), (300, 2), (96, 96), (40, 500)])
def test_pixels_of_pages(kind, size):
    """Of a page, or of each of its tiles, to the last bit."""
    llm, reference = kind
    wanted = reference.page(photo(*size))["pixel_values"].numpy()
    found = llm.model.processor(photo(*size))
    oracle = reference.processor.image_processor
    tiles = getattr(found, "pictures", (found,))
    wanted = wanted.reshape(-1, *wanted.shape[-3:])
    assert len(tiles) == len(wanted)
    for tile, own in zip(tiles, wanted, strict=True):
        values = oracle.rescale(pixels(tile, llm.model.processor.patch), oracle.rescale_factor)
        values = oracle.normalize(values, oracle.image_mean, oracle.image_std)
        np.testing.assert_array_equal(values, own)


def test_scores(kind):
    """Each query with its page: the sum of the largest products of torch's vectors."""
    llm, reference = kind
    pairs = list(zip(QUERIES, PAGES, strict=False))
    asked = [reference(reference.query(query)) for query, _ in pairs]
    pages = [reference(reference.page(image)) for _, image in pairs]
    found = llm.score(QUERIES, [page(image) for _, image in pairs], use_tqdm=False)
    wanted = [(q @ p.T).max(axis=1).sum() for q, p in zip(asked, pages, strict=True)]
    np.testing.assert_allclose([s.outputs.score for s in found], wanted, rtol=2e-5)


@pytest.mark.slow
def test_vectors(kind):
    llm, reference = kind
    prompts = [{"image": image} for image in PAGES]
    outputs = llm.encode([*prompts, *QUERIES], pooling_task="token_embed", use_tqdm=False)
    for one, image in zip(outputs, PAGES, strict=False):
        near(one.outputs.data, reference(reference.page(image)))
    outputs = llm.encode(QUERIES, pooling_task="token_embed", input_type="query", use_tqdm=False)
    for one, query in zip(outputs, QUERIES, strict=True):
        near(one.outputs.data, reference(reference.query(query)))


def test_images_and_placeholders_have_to_agree(kind):
    llm, _ = kind
    image, name = PAGES[0], llm.model.conversation.placeholder
    for text, images in ((f"{name} and {name}", image), ("none", image), (name, PAGES[:2])):
        prompt = {"prompt": text, "multi_modal_data": {"image": images}}
        with pytest.raises(RequestError, match="placeholders in input prompt than actual"):
            requests(llm, prompt)
