"""Entity spans equal to transformers' token-classification pipeline."""

import numpy as np
import pytest
import torch
from transformers import BertForTokenClassification, pipeline

from jaxpool import LLM
from jaxpool.tasks.entities import entities
from tests.small import save

LABELS = ["O", "B-PER", "I-PER", "B-LOC", "I-LOC", "MISC"]
TEXTS = [
    "Angela Merkel visited the Völklinger Hütte near Saarbrücken-Burbach in Saarland.",
    "microtonality and electroencephalography, unbelievably!",
    "東京タワー 🙂 is in Tokyo",
    "",
]


@pytest.fixture(scope="module")
def tagger(tmp_path_factory):
    labels = dict(enumerate(LABELS))
    folder = save(tmp_path_factory.mktemp("ner"), BertForTokenClassification, id2label=labels)
    return LLM(str(folder))


@pytest.fixture(scope="module")
def reference(tagger):
    folder = str(tagger.model.checkpoint.folder)
    return pipeline("ner", model=folder, device="cpu", ignore_labels=[], dtype=torch.float32)


@pytest.mark.parametrize("strategy", ["none", "simple", "first", "average", "max"])
def test_spans_are_those_of_the_pipeline(strategy, tagger, reference):
    ours = tagger.entities(TEXTS, aggregation=strategy, ignore=(), use_tqdm=False)
    kinds = set()
    for text, spans in zip(TEXTS, ours, strict=True):
        wanted = reference(text, aggregation_strategy=strategy)
        assert [(s.start, s.end) for s in spans] == [(w["start"], w["end"]) for w in wanted]
        names = [w.get("entity_group", w.get("entity")) for w in wanted]
        assert [s.label for s in spans] == names
        np.testing.assert_allclose(
            [s.score for s in spans], [w["score"] for w in wanted], atol=1e-4
        )
        assert all(s.text == text[s.start : s.end] for s in spans)
        kinds |= set(names)
    assert len(kinds) >= 3


def test_labels_can_be_ignored(tagger):
    every = tagger.entities(TEXTS, ignore=(), use_tqdm=False)
    some = tagger.entities(TEXTS, ignore=("PER", "O"), use_tqdm=False)
    kept = [[s for s in spans if s.label not in ("PER", "O")] for spans in every]
    assert some == kept and some != every


def test_unknown_strategy(tagger):
    with pytest.raises(ValueError, match="unknown aggregation 'median'"):
        tagger.entities("a", aggregation="median", use_tqdm=False)


def test_ids_have_no_spans(tagger):
    with pytest.raises(TypeError, match="every prompt must be a text"):
        tagger.entities([[101, 102]], use_tqdm=False)


def test_words_without_a_prefix_are_told_by_spaces():
    class Tokenizer:
        unknown = None

        class fast:
            model = None
            id_to_token = staticmethod(str)

    text = "New York"
    probs = np.array([[0.1, 0.9], [0.6, 0.4], [0.2, 0.8]])
    offsets = np.array([[0, 2], [2, 3], [4, 8]])
    (span,) = entities(text, np.arange(3), offsets, probs, Tokenizer, {0: "O", 1: "LOC"}, "first")
    assert (span.text, span.label) == ("New York", "LOC")
    assert span.score == pytest.approx(0.85)
