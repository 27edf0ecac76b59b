"""What may be passed as a prompt with pictures, and what is refused."""

import base64
import io
import json
import shutil
import sys

import numpy as np
import pytest
from PIL import Image

import jaxpool
from jaxpool import PoolingParams
from jaxpool.errors import RequestError
from tests.images import models
from tests.images.photos import encoded, photo

PHOTO = photo(60, 70)


def of(image, text: str = "") -> dict:
    return {"prompt": text, "multi_modal_data": {"image": image}}


@pytest.fixture(scope="module")
def clip(loaded):
    return loaded("clip")


@pytest.fixture(scope="module")
def wanted(clip):
    return clip.model.encode(PHOTO)


def test_forms_of_a_picture(clip, wanted, tmp_path):
    """Pillow images, arrays, files and their bytes, alone or in a list."""
    path = tmp_path / "photo.png"
    PHOTO.save(path)
    sources = [PHOTO, np.asarray(PHOTO), path, str(path), encoded(PHOTO, "PNG"), [PHOTO]]
    outputs = clip.embed([of(source) for source in sources], use_tqdm=False)
    for output in outputs:
        np.testing.assert_allclose(output.outputs.embedding, wanted, atol=1e-6)
        assert output.prompt_token_ids == [0]
    single = clip.embed({"multi_modal_data": {"image": PHOTO}}, use_tqdm=False)
    np.testing.assert_allclose(single[0].outputs.embedding, wanted, atol=1e-6)


def test_sentence_transformers_forms(clip, wanted):
    """Pictures and dicts among texts; a single one gives a single vector."""
    prompts = [PHOTO, "text", {"image": PHOTO}, {"text": "text"}, np.asarray(PHOTO)]
    found = clip.model.encode(prompts)
    for i in (0, 2, 4):
        np.testing.assert_allclose(found[i], wanted, atol=1e-6)
    np.testing.assert_allclose(found[1], found[3], atol=1e-6)
    np.testing.assert_array_equal(clip.model.encode("text").shape, wanted.shape)
    np.testing.assert_allclose(clip.model.encode({"image": PHOTO}), wanted, atol=1e-6)


def test_parameters_are_each_prompts_own(clip):
    raw = PoolingParams(use_activation=False)
    params = [PoolingParams(), raw, raw, PoolingParams()]
    outputs = clip.embed([of(PHOTO), of(PHOTO), "t", "t"], pooling_params=params, use_tqdm=False)
    norms = [np.linalg.norm(output.outputs.embedding) for output in outputs]
    np.testing.assert_allclose([norms[0], norms[3]], 1.0, atol=1e-6)
    assert abs(norms[1] - 1) > 0.01 < abs(norms[2] - 1)


def test_several_precisions_of_one_forward(clip, wanted):
    names = ["embed", "embed:int8"]
    output = clip.encode([of(PHOTO), "text"], pooling_task=names, use_tqdm=False)[0].outputs.data
    np.testing.assert_allclose(output["embed"], wanted, atol=1e-6)
    np.testing.assert_allclose(output["embed:int8"], wanted * 127, atol=0.51)


def test_a_call_longer_than_a_window(clip, wanted, monkeypatch):
    monkeypatch.setattr("jaxpool.offline.PICTURES", 3)
    prompts = [of(PHOTO) if i % 2 else f"text {i % 4}" for i in range(11)]
    outputs = clip.embed(prompts, use_tqdm=False)
    for i, output in enumerate(outputs):
        if i % 2:
            np.testing.assert_allclose(output.outputs.embedding, wanted, atol=1e-6)
    np.testing.assert_allclose(
        outputs[0].outputs.embedding, outputs[4].outputs.embedding, atol=1e-6
    )


def test_urls(towers, wanted, tmp_path):
    """`data:` always, `file:` below the folder that is allowed, other hosts where they are."""
    data = f"data:image/png;base64,{base64.b64encode(encoded(PHOTO, 'PNG')).decode()}"
    PHOTO.save(tmp_path / "photo.png")
    allowed = {"allowed_local_media_path": str(tmp_path), "allowed_media_domains": ["a.example"]}
    llm = jaxpool.LLM(str(towers("clip")), data_parallel_size=1, **allowed)
    prompts = [of(data), {"image": f"file://{tmp_path}/photo.png"}]
    for output in llm.embed(prompts, use_tqdm=False):
        np.testing.assert_allclose(output.outputs.embedding, wanted, atol=1e-6)
    with pytest.raises(RequestError, match=r"'a.example'.. Input URL domain: b.example"):
        llm.embed(of("https://b.example/photo.png"), use_tqdm=False)


def test_scores(clip, wanted):
    """Queries and documents of content parts; what a text model refuses."""
    data = f"data:image/png;base64,{base64.b64encode(encoded(PHOTO, 'PNG')).decode()}"
    parts = [{"type": "image_url", "image_url": {"url": data}}]
    documents = [{"content": parts}, {"content": [{"type": "image_pil", "image_pil": PHOTO}]}]
    text = clip.model.encode("a cat")
    outputs = clip.score("a cat", [*documents, "a cat"], use_tqdm=False)
    scores = [output.outputs.score for output in outputs]
    np.testing.assert_allclose(scores, [text @ wanted, text @ wanted, 1.0], atol=1e-5)
    with pytest.raises(RequestError, match="of type text, image_url or image_pil, got 'video'"):
        clip.score("a cat", {"content": [{"type": "video"}]}, use_tqdm=False)


def test_limits_of_images(towers, clip):
    llm = jaxpool.LLM(
        str(towers("clip")), data_parallel_size=1, limit_mm_per_prompt={"image": {"count": 0}}
    )
    with pytest.raises(RequestError, match=r"At most 0 image\(s\) may be provided in one prompt"):
        llm.embed(of(PHOTO), use_tqdm=False)
    with pytest.raises(ValueError, match="limit_mm_per_prompt: wanted a number of images, got -1"):
        jaxpool.LLM(str(towers("clip")), limit_mm_per_prompt={"image": -1})


def test_processing_of_a_prompt(towers, loaded):
    """`mm_processor_kwargs` at load and in a prompt, within what the tower can take."""
    prompt = of(PHOTO) | {"mm_processor_kwargs": {"max_num_patches": 12}}
    outputs = loaded("siglip2").embed([prompt, of(PHOTO)], use_tqdm=False)
    small, whole = (output.outputs.embedding for output in outputs)
    assert np.abs(np.subtract(small, whole)).max() > 1e-3
    options = {"mm_processor_kwargs": {"max_num_patches": 12}, "data_parallel_size": 1}
    smaller = jaxpool.LLM(str(towers("siglip2")), **options)
    np.testing.assert_allclose(smaller.model.encode(PHOTO), small, atol=1e-6)
    assert smaller.model.fingerprint != loaded("siglip2").model.fingerprint
    with pytest.raises(RequestError, match="pictures of 40 patches, but the model was loaded for"):
        prompt["mm_processor_kwargs"] = {"max_num_patches": 40}
        smaller.embed(prompt, use_tqdm=False)
    for wrong, message in (({"image_mean": 0}, "image_mean"), ({"crop_size": 28}, "the tower has")):
        with pytest.raises(ValueError, match=message):
            loaded("clip").embed(of(PHOTO) | {"mm_processor_kwargs": wrong}, use_tqdm=False)


@pytest.mark.parametrize(
    "prompt,message",
    [
        (of(PHOTO, "a cat"), "CLIP accepts text-only or image-only inputs, not both"),
        (of([PHOTO, PHOTO]), r"At most 1 image\(s\) may be provided in one prompt"),
        (of(b"no picture"), "Failed to load image"),
        (of(encoded(PHOTO, "PNG")[:400]), "Failed to load image"),
        (of(3), "an image must be a PIL.Image, a uint8 array, a path or the bytes of a file"),
        (of(np.zeros((4, 4, 3))), "an image array must be uint8"),
        (of(Image.new("RGB", (60_000, 1))), "too long for this model"),
        ({"prompt": "", "multi_modal_data": {"video": 1}}, "only images are supported, got video"),
    ],
)
def test_what_is_refused(clip, prompt, message):
    with pytest.raises(RequestError, match=message):
        clip.embed(["text", prompt], use_tqdm=False)


def test_token_vectors_are_of_texts(clip):
    with pytest.raises(RequestError, match="token_embed is of texts, and takes no images"):
        clip.encode(of(PHOTO), pooling_task="token_embed", use_tqdm=False)


def test_an_empty_list_of_images_is_a_text(clip):
    empty, plain = clip.embed([of([], "a cat"), "a cat"], use_tqdm=False)
    np.testing.assert_allclose(empty.outputs.embedding, plain.outputs.embedding, atol=1e-6)
    with pytest.raises(TypeError, match="must contain text"):
        clip.embed({"multi_modal_data": {"image": []}}, use_tqdm=False)


def test_a_text_model_takes_no_images(minilm):
    with pytest.raises(RequestError, match="this is not a multimodal model"):
        minilm.embed(of(PHOTO), use_tqdm=False)
    with pytest.raises(RequestError, match="this is not a multimodal model"):
        minilm.model.encode([PHOTO])


@pytest.fixture(scope="module")
def clip_folder(tmp_path_factory):
    """CLIP with a tokenizer of its own, as sentence-transformers wants it."""
    folder = models.save(tmp_path_factory.mktemp("st") / "clip", "clip", {"vocab_size": 514})
    end = models.add_clip_tokenizer(folder)
    models.save(folder, "clip", {"vocab_size": 514, "eos_token_id": end})
    models.add_clip_tokenizer(folder)
    return folder


@pytest.mark.parametrize("normalized", [False, True])
def test_sentence_transformers_folder(normalized, clip_folder, tmp_path):
    """A CLIPModel module in a folder of its own: not normalized, unless a module says so."""
    from sentence_transformers import SentenceTransformer

    folder = tmp_path / "clip-st"
    folder.mkdir()
    shutil.copytree(clip_folder, folder / "0_CLIPModel")
    kinds = ["CLIPModel"] + ["Normalize"] * normalized
    modules = [
        {
            "idx": i,
            "name": str(i),
            "path": f"{i}_{kind}",
            "type": f"sentence_transformers.models.{kind}",
        }
        for i, kind in enumerate(kinds)
    ]
    (folder / "modules.json").write_text(json.dumps(modules))
    reference = SentenceTransformer(str(folder), device="cpu")
    model = jaxpool.load(str(folder), data_parallel_size=1)
    texts = ["A cat", "two dogs"]
    for prompts in (texts, [PHOTO, photo(31, 99)]):
        np.testing.assert_allclose(model.encode(prompts), reference.encode(prompts), atol=1e-5)


def test_a_folder_of_a_multi_modal_transformer(clip_folder, tmp_path):
    """As sentence-transformers 6 writes one: its module says which method reads what."""
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.base.modules import Transformer

    reference = SentenceTransformer(modules=[Transformer(str(clip_folder))], device="cpu")
    reference.save(str(tmp_path / "st"))
    assert "modality_config" in (tmp_path / "st" / "sentence_bert_config.json").read_text()
    model = jaxpool.load(str(tmp_path / "st"), data_parallel_size=1)
    texts, images = ["A cat", "two dogs"], [PHOTO, photo(31, 99)]
    wanted = np.concatenate([reference.encode(one) for one in (texts, images)])
    np.testing.assert_allclose(model.encode([*texts, *images]), wanted, atol=1e-5)
    with pytest.raises(RequestError, match="text-only or image-only"):
        model.encode([{"text": "A cat", "image": PHOTO}])


def test_pillow_is_asked_for_where_it_is_needed(clip, monkeypatch):
    monkeypatch.setitem(sys.modules, "jaxpool.images.decode", None)
    with pytest.raises(ImportError, match=r"pip install 'jaxpool\[images\]'"):
        clip.embed(of(PHOTO), use_tqdm=False)


def test_truncated_stream_of_a_pillow_image(clip):
    lazy = Image.open(io.BytesIO(encoded(photo(300, 300), "PNG")[:9000]))
    with pytest.raises(RequestError, match="Failed to load image"):
        clip.embed(of(lazy), use_tqdm=False)
