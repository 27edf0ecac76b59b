"""Scripts as people publish them for sentence-transformers, with that import and with ours."""

import importlib
import json

import numpy as np
import pytest
from datasets import Dataset

from jaxpool.integrations import evaluation
from tests.serving import checkpoints

OURS = "jaxpool.integrations.sentence_transformers"
PASSAGES = [
    "A man is eating food.",
    "A man is eating a piece of bread.",
    "The girl is carrying a baby.",
    "A man is riding a horse.",
    "A woman is playing violin.",
    "Two men pushed carts through the woods.",
    "A man is riding a white horse on an enclosed ground.",
    "A monkey is playing drums.",
    "A cheetah is running behind its prey.",
]
SCRIPTS = {
    "semantic search": """
from sentence_transformers import SentenceTransformer, util
model = SentenceTransformer(EMBEDDER)
corpus = model.encode(PASSAGES, convert_to_tensor=True, show_progress_bar=False)
queries = ["Someone eats pasta.", "Someone in a gorilla costume is playing a set of drums."]
found = util.semantic_search(model.encode(queries, convert_to_tensor=True), corpus, top_k=3)
result = {"rows": [[hit["corpus_id"] for hit in hits] for hits in found]}
result["scores"] = [[hit["score"] for hit in hits] for hits in found]
result["one"] = util.cos_sim(model.encode(queries[0]), corpus)[0]
result["dots"] = util.dot_score(corpus, corpus[:2])
""",
    "retrieve and rerank": """
from sentence_transformers import CrossEncoder, SentenceTransformer
from sentence_transformers.util import semantic_search
retriever, reranker = SentenceTransformer(EMBEDDER), CrossEncoder(RERANKER)
retriever.max_seq_length = 128
passages = retriever.encode_document(PASSAGES, batch_size=4)
query = "Who rides a horse?"
hits = semantic_search(retriever.encode_query(query), passages, top_k=5)[0]
scores = reranker.predict([[query, PASSAGES[hit["corpus_id"]]] for hit in hits])
for hit, score in zip(hits, scores):
    hit["cross-score"] = float(score)
hits = sorted(hits, key=lambda hit: hit["cross-score"], reverse=True)
result = {"order": [hit["corpus_id"] for hit in hits]}
result["scores"] = [hit["cross-score"] for hit in hits]
ranks = reranker.rank(query, PASSAGES, top_k=4, return_documents=True)
result["ranked"] = [rank["text"] for rank in ranks]
""",
    "similarity of sentences": """
from sentence_transformers import SentenceTransformer
model = SentenceTransformer(EMBEDDER)
first = model.encode(["The new movie is awesome.", "The dog plays in the garden."])
second = model.encode(["It is a great new film.", "A woman watches TV."])
result = {"all": model.similarity(first, second)}
result["pairs"] = model.similarity_pairwise(first, second)
result["size"] = model.get_embedding_dimension()
short = SentenceTransformer(EMBEDDER, truncate_dim=64)
result["short"] = short.encode(PASSAGES, normalize_embeddings=True)
""",
    "prompts": """
from sentence_transformers import SentenceTransformer
prompts = {"query": "Represent this sentence for searching: ", "passage": "passage: "}
model = SentenceTransformer(EMBEDDER, prompts=prompts, default_prompt_name="passage")
result = {"default": model.encode(PASSAGES[:2])}
result["named"] = model.encode("Who eats?", prompt_name="query")
result["given"] = model.encode("Who eats?", prompt="Who: ")
result["sides"] = [model.encode_query("Who eats?"), model.encode_document(PASSAGES[0])]
plain = SentenceTransformer(PROMPTED)
result["saved"] = [plain.encode_query("Who eats?"), plain.encode("Who eats?", prompt_name="query")]
""",
    "mining": """
from datasets import Dataset
from sentence_transformers import SentenceTransformer, util
model = SentenceTransformer(EMBEDDER)
pairs = util.paraphrase_mining(model, PASSAGES, top_k=4, max_pairs=9)
result = {"pairs": [pair[1:] for pair in pairs], "scores": [pair[0] for pair in pairs]}
pairs = Dataset.from_dict({"query": PASSAGES[:4], "answer": PASSAGES[1:5]})
mined = util.mine_hard_negatives(pairs, model, num_negatives=2, max_score=0.9, verbose=False)
result["negatives"] = sorted(map(str, mined.to_list()))
groups = util.community_detection(model.encode(PASSAGES), threshold=0.5, min_community_size=2)
result["groups"] = groups
""",
}


@pytest.fixture(scope="module")
def names(tmp_path_factory, minilm):
    return {
        "EMBEDDER": str(minilm.model.checkpoint.folder),
        "RERANKER": str(checkpoints.cross_encoder(tmp_path_factory.mktemp("reranker"))),
        "PROMPTED": str(checkpoints.embedder(tmp_path_factory.mktemp("prompted"))),
        "PASSAGES": PASSAGES,
    }


def ran(script: str, names: dict) -> dict:
    scope = dict(names)
    exec(script, scope)
    return scope["result"]


@pytest.mark.slow
@pytest.mark.parametrize("name", SCRIPTS)
def test_a_script_changes_its_import_and_runs(name, names):
    script = SCRIPTS[name]
    wanted = ran(script, names)
    found = ran(script.replace("from sentence_transformers", f"from {OURS}"), names)
    assert found.keys() == wanted.keys()
    for key, value in found.items():
        same(value, wanted[key])


def same(found, wanted):
    """Check texts, rows and sizes to be equal, and numbers to be close."""
    if isinstance(found, list):
        for a, b in zip(found, wanted, strict=True):
            same(a, b)
    elif isinstance(found, str | int):
        assert found == wanted
    else:
        np.testing.assert_allclose(found, np.asarray(wanted), atol=1e-5)


def test_what_is_not_there_is_named(names):
    module = importlib.import_module(OURS)
    model = module.SentenceTransformer(names["EMBEDDER"])
    with pytest.raises(ValueError, match="max_seq_length 9999: the model was loaded for 1 to 256"):
        model.max_seq_length = 9999
    with pytest.raises(ValueError, match="no prompt 'qery'; known: query"):
        module.SentenceTransformer(
            names["EMBEDDER"], prompts={"query": "q: "}, default_prompt_name="qery"
        )
    with pytest.raises(ValueError, match="score_function must be util.cos_sim or util.dot_score"):
        module.util.semantic_search(np.eye(3), np.eye(3), score_function=max)


NANO = {"NanoMSMARCO": (PASSAGES, 2), "NanoNQ": (PASSAGES[::-1], 3)}


@pytest.fixture
def nano(tmp_path):
    """A folder as NanoBEIR's on the Hub: a parquet file a kind and data set."""
    for name, (passages, answers) in NANO.items():
        tables = {
            "corpus": [{"_id": f"d{i}", "text": text} for i, text in enumerate([*passages, ""])],
            "queries": [{"_id": f"q{i}", "text": t[:12]} for i, t in enumerate(passages[:4])],
            "qrels": [
                {"query-id": f"q{i}", "corpus-id": f"d{i + j}"}
                for i in range(4)
                for j in range(answers)
            ],
        }
        for kind, rows in tables.items():
            file = tmp_path / kind / f"{name}-00000-of-00001.parquet"
            file.parent.mkdir(exist_ok=True)
            Dataset.from_list(rows).to_parquet(file)
    return tmp_path


@pytest.mark.parametrize("k", [3, pytest.param(10, marks=pytest.mark.slow)])
def test_nano_beir(k, nano, names, reference_minilm, monkeypatch):
    from sentence_transformers.sentence_transformer.evaluation import NanoBEIREvaluator

    def local(folder, kind, split):
        return Dataset.from_parquet(str(nano / kind / f"{split}-00000-of-00001.parquet"))

    monkeypatch.setattr("datasets.load_dataset", local)
    at = dict.fromkeys(("mrr_at_k", "ndcg_at_k", "accuracy_at_k", "precision_recall_at_k"), [k])
    evaluator = NanoBEIREvaluator(["msmarco", "nq"], write_csv=False, **at)
    wanted = evaluator(reference_minilm)
    model = importlib.import_module(OURS).SentenceTransformer(names["EMBEDDER"])
    found = evaluation.nano_beir(model, nano, k=k)
    assert set(found) == {"NanoMSMARCO", "NanoNQ", "mean"}
    theirs = {"NanoMSMARCO": "NanoMSMARCO", "NanoNQ": "NanoNQ", "mean": "NanoBEIR_mean"}
    for name, measures in found.items():
        for measure, value in measures.items():
            key = f"{theirs[name]}_cosine_{measure}"
            assert value == pytest.approx(wanted[key], abs=1e-6), json.dumps(wanted)
