"""mteb accepts jaxpool's models, and finds in them what it finds in sentence-transformers'."""

import mteb
import numpy as np
import pytest
from scoring.conftest import DOCUMENTS, QUERIES, small_bert
from transformers import BertForSequenceClassification

pytestmark = pytest.mark.filterwarnings("ignore")


@pytest.fixture
def task():
    """A retrieval task of three queries, in memory, its documents ranked for rerankers."""
    from datasets import Dataset
    from mteb.abstasks.retrieval import AbsTaskRetrieval
    from mteb.abstasks.task_metadata import TaskMetadata

    ids = [str(i) for i in range(len(QUERIES))]

    class LocalRetrieval(AbsTaskRetrieval):
        metadata = TaskMetadata(
            name="LocalRetrieval",
            description="Three questions",
            dataset={"path": "local", "revision": "1"},
            type="Retrieval",
            category="t2t",
            modalities=["text"],
            eval_splits=["test"],
            eval_langs=["eng-Latn"],
            main_score="ndcg_at_10",
        )

        def load_data(self, **kwargs):
            split = {
                "corpus": Dataset.from_dict({"id": ids, "text": DOCUMENTS, "title": [""] * 3}),
                "queries": Dataset.from_dict({"id": ids, "text": QUERIES}),
                "relevant_docs": {i: {i: 1} for i in ids},
                "top_ranked": {i: ids for i in ids},
            }
            self.dataset = {"default": {"test": split}}
            self.data_loaded = True

    return LocalRetrieval()


def _scores(model, task):
    result = mteb.evaluate(model, task, cache=None, encode_kwargs={"batch_size": 2})
    return result.task_results[0].scores["test"][0]


def test_encoder(minilm, reference_minilm, task):
    from jaxpool.integrations.mteb import MTEBEncoder

    ours, theirs = _scores(MTEBEncoder(minilm), task), _scores(reference_minilm, task)
    assert ours["ndcg_at_10"] == pytest.approx(theirs["ndcg_at_10"], abs=1e-3)
    assert ours["ndcg_at_10"] == 1.0


def test_cross_encoder(checkpoint, task):
    from sentence_transformers import CrossEncoder

    from jaxpool.integrations.mteb import MTEBCrossEncoder

    folder = checkpoint(BertForSequenceClassification, small_bert(num_labels=1), "rerank")
    ours = _scores(MTEBCrossEncoder(str(folder)), task)
    theirs = _scores(CrossEncoder(str(folder), device="cpu"), task)
    assert ours["ndcg_at_10"] == pytest.approx(theirs["ndcg_at_10"], abs=1e-3)
    assert ours["mrr_at_10"] == pytest.approx(theirs["mrr_at_10"], abs=1e-3)


def test_long_texts_are_cut_as_the_references_cut_them(checkpoint, minilm, reference_minilm):
    from sentence_transformers import CrossEncoder

    from jaxpool.integrations.mteb import MTEBCrossEncoder, MTEBEncoder

    long = " ".join(DOCUMENTS) * 30
    ours = MTEBEncoder(minilm).encode([{"text": [long, "a"]}])
    np.testing.assert_allclose(ours, reference_minilm.encode([long, "a"]), atol=1e-5)
    folder = checkpoint(BertForSequenceClassification, small_bert(num_labels=1), "long")
    scores = MTEBCrossEncoder(str(folder)).predict([{"text": [QUERIES[0]]}], [{"text": [long]}])
    reference = CrossEncoder(str(folder), device="cpu")
    wanted = reference.predict([(QUERIES[0], long)], activation_fn=lambda x: x)
    np.testing.assert_allclose(scores, wanted, atol=1e-4)
