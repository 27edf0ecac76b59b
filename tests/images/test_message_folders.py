"""Folders of sentence-transformers 5.4 and later: methods by modality, messages, processing."""

import json
from functools import partial

import numpy as np
import pytest
from sentence_transformers import SentenceTransformer
from sentence_transformers.base.modules import Transformer
from sentence_transformers.sentence_transformer.modules import Normalize, Pooling
from transformers import AutoProcessor, Qwen3Config, Qwen3Model

import jaxpool
from converters.heads.transformer_module import read_transformer
from converters.report import CheckpointError
from tests.images import joined_models, models, page_models
from tests.images.photos import photo
from tests.parity import save_random

IMAGE = "<|vision_start|><|image_pad|><|vision_end|>"
FLAT = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content | trim }}<|im_end|>\n"
    "{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
    "{% if task == 'query' %}<|endoftext|>{% endif %}"
)
PARTS = (
    "{% if messages[0].role != 'system' %}<|im_start|>system\nBe brief.<|im_end|>\n{% endif %}"
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{% for p in m.content %}"
    "{% if p.type == 'image' %}" + IMAGE + "{% else %}{{ p.text }}{% endif %}"
    "{% endfor %}<|im_end|>\n{% endfor %}"
)
PROMPTS = {"query": "Find it.", "document": ""}
TEXTS = ["A cat sleeps", "  two dogs\n", "no"]


def saved(folder, template="", **options):
    """The folder and the model, of the last token's vector, as sentence-transformers saves it."""
    if template:
        (folder / "chat_template.jinja").write_text(template)
    module = Transformer(str(folder), **options)
    width = joined_models.TEXT["hidden_size"]
    pooled = [Pooling(width, pooling_mode="lasttoken"), Normalize()]
    modules = [module, *(pooled if module.module_output_name == "token_embeddings" else [])]
    reference = SentenceTransformer(modules=modules, prompts=PROMPTS, device="cpu")
    made = folder.parent / "saved"
    reference.save_pretrained(str(made))
    return reference, jaxpool.load(str(made), data_parallel_size=1)


def check(reference, model, inputs, each=False, **options):
    """Vectors of inputs, by themselves where sentence-transformers pads what attends to padding."""
    if each:
        wanted = np.stack([reference.encode(one, **options) for one in inputs])
    else:
        wanted = reference.encode(inputs, **options)
    kinds = {name: one for name, one in options.items() if name != "task"}
    found = model.encode(inputs, input_type=options.get("task"), **kinds)
    unit = [x / np.linalg.norm(x, axis=-1, keepdims=True) for x in (wanted, found)]
    assert (unit[0] * unit[1]).sum(-1).min() > 0.99999
    np.testing.assert_allclose(found, wanted, atol=2e-4 * np.abs(wanted).max())


def test_texts_are_messages(tmp_path):
    """Flat contents, trimmed by their template, which knows queries and has the prompt first."""
    config = Qwen3Config(**joined_models.TEXT)
    folder = save_random(Qwen3Model, config, tmp_path / "qwen3")
    joined_models.add_tokenizer(folder)
    asked = {"chat_template": {"add_generation_prompt": True}, "text": {"max_length": 60}}
    reference, model = saved(folder, FLAT, processing_kwargs=asked)
    assert model.max_length == 60
    check(reference, model, TEXTS)
    check(reference, model, TEXTS, prompt="Say why.")
    check(reference, model, TEXTS, prompt_name="query")
    for side in PROMPTS:
        wanted = getattr(reference, f"encode_{side}")(TEXTS)
        np.testing.assert_allclose(model.encode(TEXTS, input_type=side), wanted, atol=1e-4)
    check(reference, model, ["many words " * 20], prompt="")  # the template's end stays


REFUSED = {
    "method": ({"modality_config": {"text": {"method": "get_qformer_features"}}}, "method must be"),
    "output": (
        {
            "modality_config": {
                "text": {"method": "forward", "method_output_name": ["hidden_states", -2]}
            }
        },
        "method_output_name must be last_hidden_state",
    ),
    "task": ({"transformer_task": "translation"}, "transformer_task must be"),
    "truncation": ({"processing_kwargs": {"text": {"truncation": False}}}, "truncation must be"),
    "image": ({"processing_kwargs": {"image": {"image_mean": [0, 0, 0]}}}, "image must be"),
    "config": ({"config_kwargs": {"is_causal": False}}, "config_kwargs must be"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_is_refused(case, tmp_path):
    config, message = REFUSED[case]
    (tmp_path / "sentence_bert_config.json").write_text(json.dumps(config))
    with pytest.raises(CheckpointError, match=message):
        read_transformer(tmp_path)


@pytest.mark.slow
def test_siglip(tmp_path):
    """As trained, whatever is asked: a text is padded to the end of the table."""
    folder = models.save(tmp_path / "siglip", "siglip")
    facts = json.loads((folder / "tokenizer_config.json").read_text())
    facts |= {"model_input_names": ["input_ids"]}  # as published: padding is read as text
    (folder / "tokenizer_config.json").write_text(json.dumps(facts))
    padding = {"padding": "max_length", "max_length": models.LENGTH}
    sizes = {"size": {"height": 56, "width": 56}, "resample": 3}
    reference, model = saved(folder, processing_kwargs={"text": padding, "image": sizes})
    check(reference, model, [text.lower() for text in TEXTS])
    check(reference, model, [photo(31, 99), photo(90, 40)])


@pytest.fixture
def without_videos(monkeypatch):
    """transformers' processor of Qwen3-VL, whose part for videos would need torchvision."""
    from transformers import AutoImageProcessor, AutoTokenizer, Qwen3VLProcessor

    def opened(folder, **options):
        images = AutoImageProcessor.from_pretrained(folder, backend="pil")
        tokenizer = AutoTokenizer.from_pretrained(folder)
        template = tokenizer.chat_template
        return Qwen3VLProcessor(images, tokenizer, images, chat_template=template)

    monkeypatch.setattr(Qwen3VLProcessor, "check_argument_for_proper_class", lambda *given: None)
    monkeypatch.setattr(AutoProcessor, "from_pretrained", opened)


@pytest.mark.slow
def test_texts_and_images_are_messages(tmp_path, without_videos):
    folder = joined_models.qwen3_vl(tmp_path / "m")
    asked = {"image": {"size": {"shortest_edge": 16**2, "longest_edge": 64**2}}}
    reference, model = saved(folder, PARTS, processing_kwargs=asked)
    picture, other = photo(90, 40), photo(31, 99)
    mixed = ["A cat", picture, {"text": "a dog", "image": other}, {"image": other, "text": "?"}]
    check(reference, model, TEXTS)
    for options in ({}, {"prompt": "Say why."}, {"prompt_name": "query"}):
        check(reference, model, mixed, each=True, **options)
    check(reference, model, mixed)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["colpali", "colqwen2"])
def test_retrieval(kind, tmp_path):
    """Vectors of tokens, as a MultiVectorEncoder has them.

    Not those of ColQwen2's pages: it gives the tokens of an image the positions of a text, where
    the authors' code, and so this one, has rows and columns.
    """
    from sentence_transformers import MultiVectorEncoder

    folder = page_models.KINDS[kind][0](tmp_path / kind)
    module = Transformer(str(folder), transformer_task="retrieval")
    reference = MultiVectorEncoder(modules=[module], device="cpu")
    reference.save_pretrained(str(tmp_path / "saved"))
    llm = jaxpool.LLM(str(tmp_path / "saved"), data_parallel_size=1)
    embed = partial(llm.encode, pooling_task="token_embed", use_tqdm=False)
    found = embed(["Who eats?"], input_type="query")[0].outputs.data
    wanted = reference.encode_query(["Who eats?"], convert_to_numpy=True)[0]
    np.testing.assert_allclose(found, wanted, atol=1e-4)
    if kind == "colqwen2":
        return
    page = photo(90, 40)
    found = embed([{"multi_modal_data": {"image": page}}])[0].outputs.data
    wanted = reference.encode_document([page], convert_to_numpy=True)[0]
    np.testing.assert_allclose(found, wanted, atol=1e-4)
