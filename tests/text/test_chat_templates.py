"""The chat templates of a tokenizer's folder, in every form that published ones have."""

import json

import pytest
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from jaxpool.text.chat_templates import chat_templates

TEMPLATE = "{% for m in messages %}{{ m['content'] }} today {% endfor %}"
CONFIG, FILE, MORE = "tokenizer_config.json", "chat_template.jinja", "additional_chat_templates"


def named(**templates):
    return [{"name": name, "template": text} for name, text in templates.items()]


@pytest.mark.parametrize(
    ("files", "found"),
    [
        ({CONFIG: {}}, {}),
        ({CONFIG: {"chat_template": None}}, {}),
        ({CONFIG: {"chat_template": TEMPLATE}}, {"default": TEMPLATE}),
        (
            {CONFIG: {"chat_template": named(rag="x", default=TEMPLATE)}},
            {"rag": "x", "default": TEMPLATE},
        ),
        ({CONFIG: {"chat_template": named(rag="x")}}, {"rag": "x"}),
        ({CONFIG: {}, FILE: TEMPLATE}, {"default": TEMPLATE}),
        ({CONFIG: {"chat_template": "old"}, FILE: TEMPLATE}, {"default": TEMPLATE}),
        ({CONFIG: {}, FILE: "\ufeff" + TEMPLATE}, {"default": TEMPLATE}),
        ({CONFIG: {}, FILE: TEMPLATE, f"{MORE}/rag.jinja": "x"}, {"rag": "x", "default": TEMPLATE}),
        ({CONFIG: {}, "chat_template.json": {"chat_template": TEMPLATE}}, {"default": TEMPLATE}),
    ],
)
def test_forms(tmp_path, files, found):
    for name, content in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        text = content if isinstance(content, str) else json.dumps(content)
        (tmp_path / name).write_text(text, encoding="utf-8")
    assert chat_templates(tmp_path) == found


def test_what_transformers_saves(bert_tokenizer, tmp_path):
    made = PreTrainedTokenizerFast(tokenizer_object=bert_tokenizer.backend_tokenizer)
    made.chat_template = {"default": TEMPLATE, "rag": "x"}
    made.save_pretrained(tmp_path)
    assert (tmp_path / FILE).is_file()
    assert chat_templates(tmp_path) == AutoTokenizer.from_pretrained(tmp_path).chat_template
