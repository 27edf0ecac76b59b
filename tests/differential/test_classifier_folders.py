"""Logits, probabilities and scores equal to transformers' and CrossEncoder's."""

import json
import shutil

import numpy as np
import pytest
import torch
from sentence_transformers import CrossEncoder
from transformers import (
    AutoModelForSequenceClassification,
    AutoModelForTokenClassification,
    AutoTokenizer,
    pipeline,
)

from jaxpool import LLM, PoolingParams
from jaxpool.model import Model
from tests.differential import classifier_folders, references
from tests.differential.classifier_folders import PAIRS, TEXTS
from tests.differential.references import attempt, difference

FAST, MANY = 4, 1500
CUT = {"tokenization_kwargs": {"truncate_prompt_tokens": -1}, "use_tqdm": False}
RAW = PoolingParams(use_activation=False)


@pytest.fixture(autouse=True)
def uncompiled(monkeypatch):
    monkeypatch.setattr(Model, "run", references.run)


def saved_activation(said) -> bool:
    """Whether a CrossEncoder's activation decides, which transformers' pipelines do not read."""
    config, settings = said["config"], said.get("settings") or {}
    names = ("sbert_ce_default_activation_function", "sentence_transformers")
    saved = any(name in config for name in names) or "activation_fn" in settings
    return saved and config["problem_type"] in (None, classifier_folders.ABSENT)


def scored(said) -> bool:
    """Whether CrossEncoder scores as it does: it has no rule for a `problem_type`.

    A regression's score is its logit, as transformers' pipelines and vLLM have it.
    """
    return said["labels"] == 1 and said["config"]["problem_type"] != "regression"


def theirs(folder, said) -> list:
    """Logits of texts; probabilities, and scores of pairs, where there are such."""
    tokens = "Token" in said["ending"]
    kind = AutoModelForTokenClassification if tokens else AutoModelForSequenceClassification
    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = kind.from_pretrained(folder, dtype=torch.float32).eval()
    found = []
    with torch.no_grad():
        for text in TEXTS:
            inputs = tokenizer(text, truncation=True, return_tensors="pt")
            found.append(model(**inputs).logits[0].numpy())
    if tokens:
        return found
    classify = pipeline("text-classification", model=model, tokenizer=tokenizer, top_k=None)
    names = [model.config.id2label[i] for i in range(said["labels"])]
    for text in () if saved_activation(said) else TEXTS:
        scores = {one["label"]: one["score"] for one in classify([text], truncation=True)[0]}
        found.append(np.array([scores[name] for name in names]))
    if scored(said):
        kwargs = {"dtype": torch.float32}
        encoder = CrossEncoder(str(folder), device="cpu", model_kwargs=kwargs)
        found += list(encoder.predict(PAIRS, batch_size=1, show_progress_bar=False))
    return found


def ours(folder, said) -> list:
    llm = LLM(str(folder))
    task = "token_classify" if "Token" in said["ending"] else "classify"
    outputs = llm.encode(TEXTS, RAW, pooling_task=task, **CUT)
    found = [output.outputs.data for output in outputs]
    if task == "token_classify":
        return found
    if not saved_activation(said):
        found += [np.array(output.outputs.probs) for output in llm.classify(TEXTS, **CUT)]
    if scored(said):
        queries, documents = map(list, zip(*PAIRS, strict=True))
        found += [output.outputs.score for output in llm.score(queries, documents, **CUT)]
    return found


def differences(root, seeds, **options) -> list[str]:
    found = []
    for seed in seeds:
        folder = root / f"case {seed}"
        said = classifier_folders.generate(folder, root, seed, **options)
        what = difference(attempt(theirs, folder, said), attempt(ours, folder, said))
        if what:
            found.append(f"{seed}: {what}\n{json.dumps(said)}")
        shutil.rmtree(folder)
    return found


def test_some_classifiers(tmp_path):
    assert not differences(tmp_path, range(FAST), families=("Bert",))


def test_a_fault_is_found(tmp_path, monkeypatch):
    """Probabilities in place of logits."""
    monkeypatch.setitem(globals(), "RAW", PoolingParams(use_activation=True))
    assert differences(tmp_path, range(4), families=("Bert",))


@pytest.mark.slow
def test_many_classifiers(tmp_path):
    assert not differences(tmp_path, range(MANY))
