"""Classes that a call names, against transformers' zero-shot-classification pipeline."""

import numpy as np
import pytest
from transformers import BertForSequenceClassification, pipeline

from jaxpool import LLM, PoolingParams
from jaxpool.scoring.zero_shot import Labels, inference
from tests.small import save

TEXTS = ["Angela Merkel visited the steel works.", "a cat sat on the mat, and slept", "日本 🙂"]
LABELS = ["politics", "the household, and its animals", "sports"]
ORDERS = {
    "entailment first": ["entailment", "neutral", "contradiction"],
    "entailment last": ["CONTRADICTION", "NEUTRAL", "ENTAILMENT"],
    "two classes": ["entailment", "not_entailment"],
}


@pytest.fixture(scope="module", params=ORDERS)
def folder(request, tmp_path_factory):
    names = ORDERS[request.param]
    labels = {"id2label": dict(enumerate(names)), "label2id": {n: i for i, n in enumerate(names)}}
    made = str(save(tmp_path_factory.mktemp("nli"), BertForSequenceClassification, **labels))
    model = BertForSequenceClassification.from_pretrained(made)
    model.classifier.weight.data *= 5  # otherwise the hypotheses hardly matter
    model.save_pretrained(made)
    return made


def test_probabilities_are_those_of_the_pipeline(folder):
    llm, template = LLM(folder), "It is about {}, mostly."
    reference = pipeline("zero-shot-classification", model=folder, device="cpu")
    for names, several in ((LABELS, False), (LABELS, True), (LABELS[:1], False)):
        options = {"hypothesis_template": template, "multi_label": several}
        ours = llm.classify(TEXTS, labels=names, use_tqdm=False, **options)
        for text, output in zip(TEXTS, ours, strict=True):
            wanted = reference(text, names, **options)
            scores = dict(zip(wanted["labels"], wanted["scores"], strict=True))
            np.testing.assert_allclose(
                output.outputs.probs, [scores[name] for name in names], atol=1e-5
            )
        assert np.ptp([output.outputs.probs for output in ours]) > 1e-3


def test_a_long_text_is_cut_and_its_hypothesis_is_not(folder):
    llm, text = LLM(folder), "a text of many words " * 40
    asked = {"labels": LABELS, "use_tqdm": False}
    with pytest.raises(ValueError, match="maximum context length"):
        llm.classify(text, **asked)
    (cut,) = llm.classify(text, tokenization_kwargs={"truncate_prompt_tokens": -1}, **asked)
    reference = pipeline("zero-shot-classification", model=folder, device="cpu")
    reference.tokenizer.model_max_length = 64
    wanted = reference(text, LABELS)
    scores = dict(zip(wanted["labels"], wanted["scores"], strict=True))
    np.testing.assert_allclose(cut.outputs.probs, [scores[name] for name in LABELS], atol=1e-4)


def test_evidence_without_activation(folder):
    llm, raw = LLM(folder), PoolingParams(use_activation=False)
    for several in (False, True):
        asked = {"labels": LABELS, "multi_label": several, "use_tqdm": False}
        (logits,), (probs,) = (
            [one.outputs.probs for one in llm.classify(TEXTS[0], pooling_params=p, **asked)]
            for p in (raw, None)
        )
        odds = np.exp(logits)
        wanted = odds / (1 + odds) if several else odds / odds.sum()
        np.testing.assert_allclose(probs, wanted, atol=1e-6)


def test_which_class_contradicts():
    assert inference({0: "neutral", 1: "contradiction", 2: "entailment"}) == (2, 1)
    assert inference({0: "no", 1: "maybe", 2: "entails"}) == (2, 0)
    with pytest.raises(ValueError, match="found \\['LABEL_0', 'LABEL_1'\\]"):
        inference({0: "LABEL_0", 1: "LABEL_1"})


@pytest.mark.parametrize(
    "given, message",
    [
        ({"names": []}, "at least one class"),
        ({"names": "politics"}, "labels must be a list of texts"),
        ({"names": ["a"], "template": "It is."}, "must have one {} for the label"),
    ],
)
def test_labels_refused(given, message):
    with pytest.raises(ValueError, match=message):
        Labels(**given)


def test_ids_are_no_premise(folder):
    with pytest.raises(ValueError, match="not for token ids"):
        LLM(folder).classify([[101, 102]], labels=LABELS, use_tqdm=False)
