"""GLiNER against what the authors' package says of the same weights."""

import json

import numpy as np
import pytest

from jaxpool import LLM
from tests.tasks.gliner_model import LABELS, RECORD, TEXTS, config, save

RECORDED = json.loads(RECORD.read_text())


@pytest.fixture(scope="module", params=RECORDED)
def case(request, tmp_path_factory):
    folder = save(tmp_path_factory.mktemp("gliner") / "model", request.param)
    return LLM(str(folder)), RECORDED[request.param]["answers"]


def test_entities_are_those_of_the_authors(case):
    llm, answers = case
    for answer in answers:
        options = {name: answer[name] for name in ("labels", "threshold", "nested")}
        ours = llm.entities(TEXTS, use_tqdm=False, **options)
        assert sum(map(len, answer["entities"])) > 3
        for text, found, wanted in zip(TEXTS, ours, answer["entities"], strict=True):
            wanted = sorted(wanted, key=lambda one: (one[2], one[3]))
            assert [(e.label, e.start, e.end) for e in found] == [
                (a, b, c) for a, _, b, c in wanted
            ]
            scores = [one[1] for one in wanted]
            np.testing.assert_allclose([e.score for e in found], scores, atol=2e-5)
            assert all(e.text == text[e.start : e.end] for e in found)


def test_refusals(case):
    llm, _ = case
    for texts, labels, message in (
        ("a cat", [], "at least one"),
        ("a cat", ["x"] * 129, "at most 128 labels"),
        ("a cat", ["a <<ENT>> b", "c"], "2 labels were given and 3 read"),
        ([[101]], LABELS, "every prompt must be a text"),
    ):
        with pytest.raises(ValueError, match=message):
            llm.entities(texts, labels=labels, use_tqdm=False)
    with pytest.raises(ValueError, match="name them as `labels`"):
        llm.encode("a cat", pooling_task="token_classify", use_tqdm=False)


def test_labels_are_for_models_of_spans(bert_llm):
    with pytest.raises(ValueError, match="Classification API is not supported"):
        bert_llm.entities("a cat", labels=LABELS, use_tqdm=False)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"encoder_config": None, "model_name": "a/b"}, "older files name 'a/b' alone"),
        ({"span_mode": "markerV2"}, "span_mode must be one of .'markerV0'"),
    ],
)
def test_what_is_not_implemented_is_refused(fields, message, tmp_path):
    folder = save(tmp_path, "bert")
    (folder / "gliner_config.json").write_text(json.dumps(config("bert") | fields))
    with pytest.raises(ValueError, match=message):
        LLM(str(folder))
