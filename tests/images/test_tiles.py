"""Models that read tiles of pictures among the tokens of a text, against torch."""

import json

import numpy as np
import pytest
from safetensors.numpy import load_file

import jaxpool
from jaxpool.images.tilings import NearestAspect
from jaxpool.text.prompts import of_parts
from tests.images import tile_models as models
from tests.images.photos import photo
from tests.images.test_joined import raw, requests
from tests.images.test_pages import pixels
from tests.images.test_towers import near, vectors

IMAGES = [photo(*size, seed) for seed, size in enumerate(((131, 83), (31, 97), (64, 7), (400, 9)))]


@pytest.fixture(scope="module")
def nemotron_vl(tmp_path_factory):
    folder = models.nemotron_vl(tmp_path_factory.mktemp("nemotron") / "m")
    return jaxpool.LLM(str(folder), data_parallel_size=1), models.NemotronReference(folder)


# A caller's prompt, the same as the authors' code is given it, and its images.
NEMOTRON = [
    ({"image": IMAGES[0]}, "passage: <image> ", IMAGES[:1]),
    ({"text": "a 語 page", "image": IMAGES[1]}, "passage: <image> a 語 page", IMAGES[1:2]),
    (raw("passage: <image>abc", IMAGES[2]), "passage: <image>abc", IMAGES[2:3]),
    ({"image": IMAGES[3]}, "passage: <image> ", IMAGES[3:]),
    ("abc", "abc", []),
    (photo(20, 20), "passage: <image> ", [photo(20, 20)]),
]


def check(llm, reference, prompts):
    """Ids, the pixels of tiles to the last bit, and vectors."""
    asked = [prompt for prompt, _, _ in prompts]
    made, found = requests(llm, asked), vectors(llm, asked)
    for one, vector, (_, text, images) in zip(made, found, prompts, strict=True):
        ids, tiles = reference.read(text, images)
        np.testing.assert_array_equal(one.ids, ids)
        assert len(one.pictures) == len(tiles)
        for picture, tile in zip(one.pictures, tiles, strict=True):
            own = pixels(picture, llm.model.processor.patch)
            np.testing.assert_array_equal(own.transpose(1, 2, 0), tile)
        wanted = reference(ids, tiles)
        near(vector, wanted / np.linalg.norm(wanted))


def test_nemotron_vl(nemotron_vl):
    check(*nemotron_vl, NEMOTRON)


def test_nemotron_vl_tells_sides_apart(nemotron_vl):
    llm, reference = nemotron_vl
    for side, name in (("query", "query: "), ("document", "passage: ")):
        (one,) = requests(llm, "abc", input_type=side)
        np.testing.assert_array_equal(one.ids, reference.read(f"{name}abc")[0])
    (one,) = requests(llm, {"image": IMAGES[0]}, input_type="document")
    np.testing.assert_array_equal(one.ids, reference.read("passage: <image> ", IMAGES[:1])[0])


def test_nemotron_vl_has_images_first(nemotron_vl):
    """Whatever comes first in a message; a placeholder that a text spells out stays text."""
    llm, reference = nemotron_vl
    image = {"type": "image_pil", "image_pil": IMAGES[0]}
    parts = [{"type": "text", "text": "see <image> and <IMG_CONTEXT>"}, image]
    (one,) = requests(llm, of_parts(parts))
    text = llm.model.tokenizer.fast.decode(one.ids, skip_special_tokens=False)
    assert text.endswith("</img> see <image> and <IMG_CONTEXT>")
    assert (one.soft >= 0).sum() == 4 * len(one.pictures)
    wanted, _ = reference.read("passage: <image> ", IMAGES[:1])
    np.testing.assert_array_equal(one.ids[: len(wanted)], wanted)


@pytest.fixture(scope="module")
def reranker(tmp_path_factory):
    folder = models.nemotron_vl(tmp_path_factory.mktemp("reranker") / "m", rerank=True)
    return jaxpool.LLM(str(folder), data_parallel_size=1), models.NemotronReference(folder)


@pytest.mark.slow
def test_nemotron_vl_scores(reranker):
    """Pairs in the words of the authors' processor, images of documents before all of them."""
    llm, reference = reranker
    image = {"type": "image_pil", "image_pil": IMAGES[0]}
    text = {"type": "text", "text": "a page"}
    documents = [{"content": [text, image]}, "a text", {"content": [image]}]
    found = llm.score("what?", documents, use_tqdm=False)
    words = "question:what? \n \n passage:"
    wanted = [(f"<image> {words}a page", 1), (f"{words}a text", 0), (f"<image> {words}", 1)]
    for one, (text, count) in zip(found, wanted, strict=True):
        ids, tiles = reference.read(text, IMAGES[:count])
        np.testing.assert_array_equal(one.prompt_token_ids, ids)
        logit = reference(ids, tiles)
        np.testing.assert_allclose(one.outputs.score, 1 / (1 + np.exp(-logit[0])), rtol=1e-4)


def test_tiles_are_those_of_the_authors_code():
    """Rows and columns of pictures of many shapes."""
    rule = NearestAspect(models.SIDE, 6)
    for width in (1, 7, 31, 32, 64, 100, 333):
        for height in (1, 16, 33, 48, 90, 250):
            image = photo(width, height)
            tiles, _, _ = rule(image, 3)
            wanted = models.NemotronReference.tiles(image)
            assert len(tiles) == len(wanted)
            for tile, own in zip(tiles, wanted, strict=True):
                np.testing.assert_array_equal(tile, np.asarray(own))


def test_round_trip(nemotron_vl, tmp_path):
    """Every tensor of a folder comes back bit by bit."""
    checkpoint = nemotron_vl[0].model.checkpoint
    checkpoint.write(checkpoint.read(np.float32, lambda path, array: array), tmp_path)
    before, after = (load_file(f / "model.safetensors") for f in (checkpoint.folder, tmp_path))
    assert before.keys() == after.keys()
    for name, tensor in before.items():
        np.testing.assert_array_equal(tensor, after[name])


@pytest.mark.parametrize(
    "field,value,message",
    [
        ("select_layer", -2, "wanted select_layer -1"),
        ("pooling", "colbert", "pooling must be one of"),
        ("llm_config", {"architectures": ["LlamaForCausalLM"]}, "llm_config must be one of"),
    ],
)
def test_what_the_authors_code_does_not_say(nemotron_vl, tmp_path, field, value, message):
    source = nemotron_vl[0].model.checkpoint.folder
    for file in source.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    config = json.loads((source / "config.json").read_text()) | {field: value}
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(ValueError, match=message):
        jaxpool.load(str(tmp_path))
