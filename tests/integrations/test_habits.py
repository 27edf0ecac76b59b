"""sentence-transformers' calls and evaluators, against sentence-transformers."""

import json

import numpy as np
import pytest

from jaxpool.integrations import evaluation
from jaxpool.integrations.sentence_transformers import CrossEncoder, SentenceTransformer
from tests.serving import checkpoints

TEXTS = [
    "A cat purrs.",
    "Dogs bark at night.",
    "Berlin is a capital.",
    "Kittens make a soft noise.",
]
QUERIES = {"q1": "noise of cats", "q2": "capital city", "q3": "dogs at night", "q4": "nothing"}
CORPUS = {f"d{i}": text for i, text in enumerate([*TEXTS, "Paris is a capital.", "Rain falls."])}
RELEVANT = {"q1": {"d0", "d3"}, "q2": {"d2", "d4"}, "q3": {"d1"}, "q4": set()}


@pytest.fixture(scope="module")
def ours(minilm):
    return SentenceTransformer(minilm)


@pytest.fixture(scope="module")
def prompted(tmp_path_factory):
    return str(checkpoints.embedder(tmp_path_factory.mktemp("habits")))


def test_vectors(ours, reference_minilm):
    wanted = reference_minilm.encode(TEXTS)
    found = ours.encode(TEXTS, batch_size=2, show_progress_bar=False, convert_to_numpy=True)
    np.testing.assert_allclose(found, wanted, atol=1e-5)
    short = ours.encode(TEXTS, truncate_dim=16, normalize_embeddings=True)
    wanted = reference_minilm.encode(TEXTS, truncate_dim=16, normalize_embeddings=True)
    np.testing.assert_allclose(short, wanted, atol=1e-5)
    assert ours.encode("one").shape == (384,) == (ours.get_sentence_embedding_dimension(),)
    with pytest.raises(TypeError, match="output_value='token_embeddings' is not supported"):
        ours.encode(TEXTS, output_value="token_embeddings")


def test_queries_and_documents_have_their_prompts(prompted):
    from sentence_transformers import SentenceTransformer as Reference

    ours, reference = SentenceTransformer(prompted), Reference(prompted, device="cpu")
    for name in ("encode_query", "encode_document", "encode"):
        wanted = getattr(reference, name)(TEXTS)
        np.testing.assert_allclose(getattr(ours, name)(TEXTS), wanted, atol=1e-5)


@pytest.mark.parametrize("name", ["cosine", "dot", "euclidean", "manhattan"])
def test_similarities(name, ours, reference_minilm, monkeypatch):
    monkeypatch.setattr(SentenceTransformer, "similarity_fn_name", name)
    vectors = 2 * reference_minilm.encode(TEXTS)
    before = reference_minilm.similarity_fn_name
    reference_minilm.similarity_fn_name = name
    wanted = reference_minilm.similarity(vectors, vectors[:2]).numpy()
    pairs = reference_minilm.similarity_pairwise(vectors[:2], vectors[2:]).numpy()
    reference_minilm.similarity_fn_name = before
    np.testing.assert_allclose(ours.similarity(vectors, vectors[:2]), wanted, atol=1e-4)
    np.testing.assert_allclose(ours.similarity_pairwise(vectors[:2], vectors[2:]), pairs, atol=1e-4)


def test_cross_encoders(tmp_path):
    from sentence_transformers import CrossEncoder as Reference

    folder = str(checkpoints.cross_encoder(tmp_path / "ce"))
    ours, reference = CrossEncoder(folder), Reference(folder, device="cpu")
    pairs = [(TEXTS[0], text) for text in TEXTS]
    np.testing.assert_allclose(ours.predict(pairs), reference.predict(pairs), atol=1e-5)
    assert np.ndim(ours.predict(pairs[0])) == 0
    found = ours.rank(TEXTS[0], TEXTS, top_k=3, return_documents=True)
    wanted = reference.rank(TEXTS[0], TEXTS, top_k=3, return_documents=True)
    assert [(r["corpus_id"], r["text"]) for r in found] == [
        (r["corpus_id"], r["text"]) for r in wanted
    ]


def test_information_retrieval(ours, reference_minilm, tmp_path):
    from sentence_transformers.sentence_transformer.evaluation import InformationRetrievalEvaluator

    settings = {"mrr_at_k": [3], "ndcg_at_k": [3], "accuracy_at_k": [3]}
    evaluator = InformationRetrievalEvaluator(
        QUERIES, CORPUS, RELEVANT, precision_recall_at_k=[3], **settings, write_csv=False
    )
    wanted = evaluator(reference_minilm)
    found = evaluation.information_retrieval(ours, QUERIES, CORPUS, RELEVANT, k=3)
    assert set(found) == {"ndcg@3", "mrr@3", "recall@3", "precision@3", "accuracy@3", "map@100"}
    for name, value in found.items():
        assert value == pytest.approx(wanted[f"cosine_{name}"]), name
    for kind, rows in {
        "corpus": [{"_id": i, "text": text} for i, text in CORPUS.items()],
        "queries": [{"_id": i, "text": text} for i, text in QUERIES.items()],
        "qrels": [{"query-id": q, "corpus-id": d} for q, ds in RELEVANT.items() for d in ds],
    }.items():
        (tmp_path / kind).mkdir()
        lines = "".join(json.dumps(row) + "\n" for row in rows)
        (tmp_path / kind / "NanoCats.jsonl").write_text(lines)
    nano = evaluation.nano_beir(ours, tmp_path, k=3)
    assert nano["NanoCats"] == nano["mean"] == found


def test_similarity_of_pairs(ours, reference_minilm):
    from sentence_transformers.sentence_transformer.evaluation import EmbeddingSimilarityEvaluator

    texts = list(CORPUS.values())  # each pair once: the last bits order what is equal
    pairs = [(a, b) for i, a in enumerate(texts) for b in texts[i + 1 :]]
    scores = [len(set(a) & set(b)) / 10 for a, b in pairs]
    first, second = map(list, zip(*pairs, strict=True))
    evaluator = EmbeddingSimilarityEvaluator(first, second, scores, write_csv=False)
    wanted = evaluator(reference_minilm)
    found = evaluation.similarity(ours, first, second, scores)
    assert found["pearson"] == pytest.approx(wanted["pearson_cosine"], abs=1e-5)
    assert found["spearman"] == pytest.approx(wanted["spearman_cosine"], abs=1e-6)


def test_reranking(ours, reference_minilm):
    from sentence_transformers.sentence_transformer.evaluation import RerankingEvaluator

    samples = [
        {
            "query": text,
            "positive": [CORPUS[d] for d in sorted(RELEVANT[q])],
            "negative": [CORPUS[d] for d in CORPUS if d not in RELEVANT[q]],
        }
        for q, text in QUERIES.items()
    ]
    wanted = RerankingEvaluator(samples[:3], at_k=10, write_csv=False)(reference_minilm)
    found = evaluation.reranking(ours, samples)
    for name, value in found.items():
        assert value == pytest.approx(wanted[name], abs=1e-6), name
