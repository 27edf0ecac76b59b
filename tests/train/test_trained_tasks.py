"""Other tasks in the trainer: a step's loss is that of the vectors which serving gives."""

import json

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file, save_file
from sentence_transformers import CrossEncoder, SparseEncoder
from sentence_transformers.sparse_encoder.losses import (
    SparseMultipleNegativesRankingLoss,
    SpladeLoss,
)
from transformers import BertForMaskedLM, BertForSequenceClassification

import jaxpool
from jaxpool import PoolingParams
from jaxpool.nn.params import flatten
from jaxpool.train import losses
from jaxpool.train.trainer import Trainer
from tests.small import DIM, save
from tests.train.test_trainer import losses_of, options, pairs

RAW = PoolingParams(use_activation=False)


def trained(model, data, folder, **changes) -> Trainer:
    """A run of a few steps on one batch; its loss has fallen."""
    given = {"batch_size": len(data), "max_steps": 4, "learning_rate": 5e-3} | changes
    trainer = Trainer(str(model), data, options(folder, **given))
    trainer.train()
    assert losses_of(trainer)[-1] < losses_of(trainer)[0]
    return trainer


def order(trainer: Trainer) -> np.ndarray:
    """The examples of the first step."""
    return next(trainer.batches.from_step(0))[1]


@pytest.fixture(scope="module")
def classifier(tmp_path_factory):
    return save(tmp_path_factory.mktemp("one"), BertForSequenceClassification, num_labels=1)


@pytest.fixture(scope="module")
def classes(tmp_path_factory):
    return save(tmp_path_factory.mktemp("three"), BertForSequenceClassification, num_labels=3)


def logits(model, queries, documents) -> np.ndarray:
    outputs = jaxpool.LLM(str(model)).score(queries, documents, pooling_params=RAW, use_tqdm=False)
    return np.array([output.outputs.score for output in outputs])


@pytest.mark.slow
def test_bce(classifier, tmp_path):
    data = [(a, b, float(i % 2)) for i, (a, b) in enumerate(pairs(8))]
    trainer = trained(classifier, data, tmp_path, loss="bce")
    a, b, labels = zip(*data, strict=True)
    wanted = losses.bce(logits(classifier, list(a), list(b)), np.array(labels))
    np.testing.assert_allclose(losses_of(trainer)[0], wanted, rtol=1e-5)
    trainer.save(tmp_path / "saved")
    after = logits(tmp_path / "saved", list(a), list(b))
    assert losses.bce(after, np.array(labels)) < losses_of(trainer)[-1]
    model = CrossEncoder(str(tmp_path / "saved"), device="cpu")
    theirs = model.predict(list(zip(a, b, strict=True)), activation_fn=torch.nn.Identity())
    np.testing.assert_allclose(after, theirs, atol=2e-5)


@pytest.mark.slow
def test_classes_of_single_texts(classes, tmp_path):
    texts = [a for a, _ in pairs(9)]
    data = [(text, i % 3) for i, text in enumerate(texts)]
    trainer = trained(classes, data, tmp_path, loss="cross_entropy")
    outputs = jaxpool.LLM(str(classes)).classify(texts, pooling_params=RAW, use_tqdm=False)
    raw = np.array([output.outputs.probs for output in outputs], np.float32)
    wanted = losses.cross_entropy(raw, np.arange(9) % 3)
    np.testing.assert_allclose(losses_of(trainer)[0], wanted, rtol=1e-5)


@pytest.mark.parametrize("loss", ["list_net", pytest.param("lambda_rank", marks=pytest.mark.slow)])
def test_lists_of_several_lengths(classifier, tmp_path, loss):
    texts = [a for a, _ in pairs(30)]
    lengths = (3, 2, 3, 1)
    data = [
        {"query": texts[i], "docs": texts[5 + 4 * i : 5 + 4 * i + n], "labels": [2.0, 1.0, 0.0][:n]}
        for i, n in enumerate(lengths)
    ]
    trainer = trained(classifier, data, tmp_path, loss=loss)
    grades = np.zeros((4, 3), np.float32)
    scores, there = grades.copy(), np.arange(3) < np.array(lengths)[:, None]
    for i, row in enumerate(data):
        scores[i, : lengths[i]] = logits(classifier, row["query"], row["docs"])
        grades[i, : lengths[i]] = row["labels"]
    wanted = getattr(losses, loss)(scores, grades, mask=there)
    np.testing.assert_allclose(losses_of(trainer)[0], wanted, rtol=1e-5)
    bad = [{"query": "a", "docs": ["b", "c"], "labels": [1.0, 0.0, 1.0]}]
    with pytest.raises(ValueError, match="wanted a label of each of 2 documents, found 3"):
        Trainer(str(classifier), bad, options(tmp_path, loss=loss))


@pytest.mark.slow
def test_ranking_margin(classifier, tmp_path):
    texts = [a for a, _ in pairs(12)]
    data = list(zip(texts[:4], texts[4:8], texts[8:], strict=True))
    trainer = trained(classifier, data, tmp_path, loss="ranking_margin")
    queries, good, bad = (list(side) for side in zip(*data, strict=True))
    scores = [logits(classifier, queries, side) for side in (good, bad)]
    np.testing.assert_allclose(losses_of(trainer)[0], losses.ranking_margin(*scores), rtol=1e-5)


@pytest.mark.slow
def test_heads_alone(classifier, tmp_path):
    """The loss falls by the classifier: nothing else changes, or has optimizer state."""
    data = [(a, b, float(i % 2)) for i, (a, b) in enumerate(pairs(8))]
    trainer = trained(classifier, data, tmp_path, loss="bce", train=(r"heads\.",))
    assert set(trainer.state.params) == {"heads"}
    before, after = flatten(jaxpool.load(str(classifier)).params), flatten(trainer.params)
    changed = {name for name in before if not np.array_equal(before[name], after[name])}
    assert changed == {name for name in before if name.startswith("heads.")}


@pytest.mark.slow
def test_splade(tmp_path):
    model = save(tmp_path / "base", BertForMaskedLM)
    data = pairs(6)
    settings = {"loss": "splade", "learning_rate": 1e-3, "batch_size": 8}
    trainer = trained(model, data, tmp_path / "run", **settings)

    def words(folder, texts):
        outputs = jaxpool.LLM(str(folder)).encode(
            list(texts), pooling_task="sparse", use_tqdm=False
        )
        return np.stack([output.outputs.data for output in outputs])

    sides = [torch.tensor(words(model, side)) for side in zip(*data, strict=True)]
    theirs = SparseEncoder(modules=[torch.nn.Identity()], device="cpu")
    inner = SparseMultipleNegativesRankingLoss(theirs)
    reference = SpladeLoss(theirs, inner, 3e-5, query_regularizer_weight=5e-5)
    wanted = inner.compute_loss_from_embeddings(sides, None)
    wanted += 3e-5 * reference.document_regularizer.compute_loss_from_embeddings(sides[1])
    wanted += 5e-5 * reference.query_regularizer.compute_loss_from_embeddings(sides[0])
    np.testing.assert_allclose(losses_of(trainer)[0], float(wanted), rtol=1e-4)
    trainer.save(tmp_path / "saved")
    assert np.abs(words(tmp_path / "saved", ["a cat"]) - words(model, ["a cat"])).max() > 1e-3
    with pytest.raises(ValueError, match="splade: chunk is for"):
        Trainer(str(model), data, options(tmp_path, loss="splade", chunk=2))


@pytest.fixture(scope="module")
def late(bert, tmp_path_factory):
    """The small encoder as colbert-ai saves it: markers, expansion, words that do not count."""
    folder = save(tmp_path_factory.mktemp("late"))
    random = np.random.default_rng(0)
    tensors = {f"bert.{k}": v for k, v in load_file(folder / "model.safetensors").items()}
    projection = 0.3 * random.standard_normal((16, DIM)).astype(np.float32)
    save_file(tensors | {"linear.weight": projection}, folder / "model.safetensors")
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"architectures": ["HF_ColBERT"]}))
    facts = {"query_maxlen": 16, "doc_maxlen": 40, "mask_punctuation": True}
    (folder / "artifact.metadata").write_text(json.dumps(facts | {"attend_to_mask_tokens": False}))
    return folder


def test_late_interaction(late, tmp_path):
    data = [(f"{a}?", f"{b}, {a}.") for a, b in pairs(6)]
    trainer = trained(late, data, tmp_path, loss="late_interaction", learning_rate=1e-3)

    def loss(model):
        queries, documents = zip(*data, strict=True)
        scores = [
            [o.outputs.score for o in model.score(q, list(documents), use_tqdm=False)]
            for q in queries
        ]
        each = np.array(scores)
        peak = each.max(axis=1, keepdims=True)
        total = np.log(np.exp(each - peak).sum(axis=1)) + peak[:, 0]
        return float(np.mean(total - np.diag(each)))

    np.testing.assert_allclose(losses_of(trainer)[0], loss(jaxpool.LLM(str(late))), rtol=1e-4)
    trainer.save(tmp_path / "saved")
    saved = jaxpool.LLM(str(tmp_path / "saved"))
    assert saved.model.late_interaction is not None
    assert loss(saved) < losses_of(trainer)[-1]


def test_gist(bert, classifier, tmp_path):
    guide = save(tmp_path / "guide", initializer_range=0.05)
    trainer = trained(bert, pairs(6), tmp_path / "run", loss="gist", guide=str(guide))
    sides = [[text for text in side] for side in zip(*pairs(6), strict=True)]
    own, other = (
        [jaxpool.load(str(model)).encode(side) for side in sides] for model in (bert, guide)
    )
    np.testing.assert_allclose(losses_of(trainer)[0], losses.gist(*own, *other), rtol=1e-4)
    with pytest.raises(ValueError, match="gist: wanted a model as guide, found None"):
        Trainer(str(bert), pairs(6), options(tmp_path, loss="gist"))
    with pytest.raises(ValueError, match="wanted no guide"):
        Trainer(str(bert), pairs(6), options(tmp_path, guide=str(guide)))
    with pytest.raises(ValueError, match="Classification API is not supported"):
        Trainer(str(bert), [("a", 1.0), ("b", 0.0)], options(tmp_path, loss="bce"))
