"""Models that read tiles of pictures among the tokens of a text, against torch."""

import json
import shutil
from functools import partial
from itertools import product
from pathlib import Path

import jax
import numpy as np
import pytest
from safetensors.numpy import load_file, save_file
from transformers.models.llava_next.image_processing_pil_llava_next import (
    LlavaNextImageProcessorPil,
)

import jaxpool
from converters.checkpoint import open_checkpoint
from converters.families.phi3_v import PHI3_V
from jaxpool.errors import RequestError
from jaxpool.images.tilings import BestSize, NearestAspect, PaddedRows
from jaxpool.text.prompts import of_parts
from tests.images import phi_models
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


LLAVA = [
    ({"text": "a 語 page", "image": IMAGES[0]}, "<image> a 語 page", IMAGES[:1]),
    (raw("<image>\nWhat is it?", IMAGES[1]), "<image>\nWhat is it?", IMAGES[1:2]),
    (raw("one <image>, two <image>", IMAGES[1:3]), "one <image>, two <image>", IMAGES[1:3]),
    ({"image": IMAGES[3]}, "<image> ", IMAGES[3:]),
    ("abc", "abc", []),
]


PHI = [
    ({"text": "a 語 page", "image": IMAGES[0]}, "<|image_1|> a 語 page", IMAGES[:1]),
    ({"image": IMAGES[1]}, "<|image_1|> Represent the given image.", IMAGES[1:2]),
    (
        raw("<|user|>\n<|image_1|>, <|image_2|><|end|>", IMAGES[1:3]),
        "<|user|>\n<|image_1|>, <|image_2|><|end|>",
        IMAGES[1:3],
    ),
    (raw("<|image_1|>", IMAGES[3]), "<|image_1|>", IMAGES[3:]),
    ("abc", "abc", []),
]


def changed(source: Path, folder: Path, fields: dict) -> Path:
    """The same folder with other fields in config.json."""
    shutil.copytree(source, folder)
    config = json.loads((folder / "config.json").read_text()) | fields
    (folder / "config.json").write_text(json.dumps(config))
    return folder


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


@pytest.fixture(scope="module")
def llava_next(tmp_path_factory):
    folder = models.llava_next(tmp_path_factory.mktemp("llava") / "m")
    return jaxpool.LLM(str(folder), data_parallel_size=1), models.LlavaReference(folder)


def test_llava_next(llava_next):
    """One image has more patches than tokens, and nothing of its tiles is left."""
    check(*llava_next, LLAVA)
    (one,) = requests(llava_next[0], LLAVA[3][0])
    assert one.length > len(one.ids)


def test_names_of_newer_files(llava_next, tmp_path):
    """All under `model.`, and those of each part without the name of its own model."""
    checkpoint = llava_next[0].model.checkpoint
    folder = changed(checkpoint.folder, tmp_path / "m", {})
    newer = {
        "model." + name.replace("el.model.", "el.").replace("tower.vision_model.", "tower."): x
        for name, x in load_file(folder / "model.safetensors").items()
    }
    assert {"model.language_model.norm.weight", "model.image_newline"} <= newer.keys()
    save_file(newer, folder / "model.safetensors", {"format": "pt"})
    read = [c.read(np.float32, lambda path, x: x) for c in (checkpoint, open_checkpoint(folder))]
    jax.tree.map(np.testing.assert_array_equal, *read)


def test_e5v_is_asked_as_on_its_card(llava_next, tmp_path):
    llm, reference = llava_next
    folder = tmp_path / "e5-v"
    folder.symlink_to(llm.model.checkpoint.folder)
    model = jaxpool.load(str(folder), data_parallel_size=1)
    words = "<|start_header_id|>user<|end_header_id|>\n\n{}\nSummary above {} in one word: "
    words += "<|eot_id|><|start_header_id|>assistant<|end_header_id|>\n\n \n"
    image, text = words.format("<image>", "image"), words.format("abc", "sentence")
    changed = '<image>Modify this image with "abc", desribe modified image in one word:'
    both = words.replace("{}\nSummary above {} in one word: ", changed)
    asked = [{"image": IMAGES[0]}, "abc", raw(image, IMAGES[0]), text]
    asked.append({"text": "abc", "image": IMAGES[0]})
    found = model.requests(model.task("embed"), asked)
    wanted = [(image, IMAGES[:1]), (text, [])] * 2 + [(both, IMAGES[:1])]
    for one, (prompt, images) in zip(found, wanted, strict=True):
        np.testing.assert_array_equal(one.ids, reference.read(prompt, images)[0])


def test_images_of_more_patches_than_fit(llava_next):
    """What counts is what the tower reads, though the padding of tiles gets no tokens."""
    (one,) = requests(llava_next[0], LLAVA[3][0])
    folder = str(llava_next[0].model.checkpoint.folder)
    short = jaxpool.load(folder, data_parallel_size=1, max_model_len=one.length - 1)
    assert len(one.ids) < one.length - 1
    with pytest.raises(RequestError, match=f"of a prompt have {one.length} vectors"):
        short.requests(short.task("embed"), LLAVA[3][0])


@pytest.mark.parametrize(
    "fields,message",
    [
        ({"vision_feature_layer": [-2, -1]}, "the layer of the vision tower that is read"),
        ({"vision_feature_select_strategy": "full"}, "vision_feature_select_strategy 'default'"),
        ({"vision_config": models.CLIP | {"num_hidden_layers": 2}}, "unexpected tensors"),
    ],
)
def test_llava_next_that_is_not_known(llava_next, tmp_path, fields, message):
    source = llava_next[0].model.checkpoint.folder
    with pytest.raises(ValueError, match=message):
        jaxpool.load(str(changed(source, tmp_path / "m", fields)))


@pytest.fixture(scope="module")
def phi3_v(tmp_path_factory):
    folder = phi_models.phi3_v(tmp_path_factory.mktemp("phi") / "m")
    return jaxpool.LLM(str(folder), data_parallel_size=1), phi_models.PhiReference(folder)


def test_phi3_v(phi3_v):
    check(*phi3_v, PHI)


def test_phi3_v_turns_as_its_older_files_say():
    """The rule that they call "su" is named anew, of the text model alone."""
    rope = {"type": "su", "short_factor": [1.0], "long_factor": [2.0]}
    made = PHI3_V.unfold({"model_type": "phi3_v", "rope_theta": 5.0, "rope_scaling": rope})
    assert "rope_scaling" not in made
    wanted = {"rope_type": "longrope", "rope_theta": 5.0, "long_factor": [2.0]}
    assert wanted.items() <= made["text_config"]["rope_parameters"].items()


def test_phi3_v_reads_texts_around_images_by_themselves(phi3_v):
    """A placeholder that a text spells out parts none; numbers are those of the images."""
    llm, reference = phi3_v
    (one,) = requests(llm, {"text": "an <|image|> here", "image": IMAGES[0]})
    begins = llm.model.tokenizer.id("<bos>")
    assert (one.ids == begins).sum() == 2
    assert (one.soft != -1).sum() == (one.ids == models.IDS["<|image|>"]).sum()
    text = llm.model.tokenizer.fast.decode(one.ids, skip_special_tokens=False)
    assert text.endswith(" an <|image|> here")
    with pytest.raises(RequestError, match=r"numbered as they come, from 1; found \[2, 1\]"):
        requests(llm, raw("<|image_2|><|image_1|>", IMAGES[:2]))
    with pytest.raises(RequestError, match="times as long as wide is too long"):
        requests(llm, {"image": photo(400, 1)})


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
    sizes = tuple((height, width) for height, width in models.POINTS)
    llava = LlavaNextImageProcessorPil(**models.SIZES, image_grid_pinpoints=models.POINTS)
    rules = [
        (NearestAspect(models.SIDE, 6), models.NemotronReference.tiles),
        (BestSize(models.SIDE, sizes), partial(models.llava_tiles, llava)),
        (PaddedRows(models.SIDE, 5), phi_models.PhiReference.tiles),
    ]
    for width, height in product((1, 7, 31, 32, 64, 100, 333), (1, 16, 33, 48, 90, 250)):
        image = photo(width, height)
        for rule, reference in rules:
            if isinstance(rule, PaddedRows) and max(width, height) > 100 * min(width, height):
                continue  # refused, as Pillow does it there
            tiles, _, _ = rule(image, 2 if isinstance(rule, PaddedRows) else 3)
            for tile, own in zip(tiles, reference(image), strict=True):
                np.testing.assert_array_equal(tile, np.asarray(own))


@pytest.mark.parametrize("kind", ["nemotron_vl", "llava_next", "phi3_v"])
def test_round_trip(kind, request, tmp_path):
    """Every tensor of a folder comes back bit by bit, those that are not read too."""
    checkpoint = request.getfixturevalue(kind)[0].model.checkpoint
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
        ("architectures", ["LlamaNemotronColEmbedVLModel"], "wanted LlamaNemotronVLModel, found"),
    ],
)
def test_what_the_authors_code_does_not_say(nemotron_vl, tmp_path, field, value, message):
    source = nemotron_vl[0].model.checkpoint.folder
    with pytest.raises(ValueError, match=message):
        jaxpool.load(str(changed(source, tmp_path / "m", {field: value})))
