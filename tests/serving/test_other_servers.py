"""The routes of other servers' clients: Text Embeddings Inference, Ollama, NIM, Vertex AI."""

import json

import numpy as np
import pytest

from serving.config import parse
from serving.routes import vertex

TEXTS = ["The capital of France is Paris.", "cat"]
PAIRS = [["how do cats purr", "The larynx vibrates."], ["how do cats purr", "Dogs bark."]]


@pytest.fixture(scope="module")
def wanted(reference_minilm):
    return reference_minilm.encode(TEXTS)


def ok(response):
    assert response.status_code == 200, response.text
    return response.json()


def embeddings(server, body):
    return [one["embedding"] for one in ok(server.post("/v1/embeddings", body))["data"]]


def classes(server, texts, **fields):
    return [one["probs"] for one in ok(server.post("/classify", {"input": texts} | fields))["data"]]


class TestTei:
    def test_embed(self, servers, wanted):
        minilm = servers("minilm")
        rows = ok(minilm.post("/embed", {"inputs": TEXTS}))
        np.testing.assert_allclose(rows, wanted, atol=1e-5)
        one = ok(minilm.post("/embed", {"inputs": TEXTS[0], "normalize": True}))
        np.testing.assert_allclose(one, wanted[:1], atol=1e-5)
        ids = minilm.service.models.served[0].model.tokenizer([TEXTS[0]])[0].ids.tolist()
        np.testing.assert_allclose(
            ok(minilm.post("/embed", {"inputs": [ids]})), wanted[:1], atol=1e-5
        )

    def test_normalize_off_is_raw(self, servers):
        raw = np.array(ok(servers("raw").post("/embed", {"inputs": TEXTS, "normalize": False})))
        assert not np.allclose(np.linalg.norm(raw, axis=1), 1, atol=1e-2)
        unit = np.array(ok(servers("raw").post("/embed", {"inputs": TEXTS})))
        np.testing.assert_allclose(unit, raw / np.linalg.norm(raw, axis=1)[:, None], atol=1e-5)

    def test_long_texts_are_cut_unless_told_not_to(self, servers):
        long = {"inputs": "word " * 5000}
        assert len(ok(servers("minilm").post("/embed", long))[0]) == 384
        assert servers("minilm").post("/embed", long | {"truncate": False}).status_code == 400
        left = long | {"inputs": "a cat. " + long["inputs"], "truncation_direction": "Left"}
        right = left | {"truncation_direction": "Right"}
        one, other = (ok(servers("minilm").post("/embed", body))[0] for body in (left, right))
        assert not np.allclose(one, other, atol=1e-3)

    def test_rerank(self, servers):
        body = {"query": PAIRS[0][0], "texts": [b for _, b in PAIRS], "return_text": True}
        found = ok(servers("ce").post("/rerank", body))
        jina = {"query": body["query"], "documents": body["texts"]}
        results = ok(servers("ce").post("/rerank", jina))["results"]
        assert [one["index"] for one in found] == [one["index"] for one in results]
        for one, other in zip(found, results, strict=True):
            assert one["score"] == pytest.approx(other["relevance_score"])
            assert one["text"] == other["document"]["text"]
        raw = ok(servers("ce").post("/rerank", body | {"raw_scores": True}))
        scores = [one["score"] for one in found]
        assert [1 / (1 + np.exp(-one["score"])) for one in raw] == pytest.approx(scores, abs=1e-5)
        refused = servers("ce").post("/rerank", {"texts": ["a"]})
        assert refused.status_code == 400 and "query" in refused.json()["error"]["message"]

    def test_tokenize(self, servers):
        body = {"inputs": ["Ünal purrs.", "cat"]}
        first, second = ok(servers("minilm").post("/tokenize", body))
        assert [one["text"] for one in second] == ["[CLS]", "cat", "[SEP]"]
        assert [one["special"] for one in second] == [True, False, True]
        assert [one["start"] for one in second] == [None, 0, None]
        assert "".join(one["text"] for one in first if not one["special"]) == "Ünalpurrs."
        ids = ok(servers("minilm").post("/tokenize", {"prompt": "cat"}))["tokens"]
        assert [one["id"] for one in second] == ids
        bare = ok(servers("minilm").post("/tokenize", body | {"add_special_tokens": False}))
        assert [one["text"] for one in bare[1]] == ["cat"]

    def test_embed_all(self, servers):
        server = servers("tokemb")
        rows = ok(server.post("/embed_all", {"inputs": TEXTS}))
        model = server.service.models.served[0].model
        assert [len(one) for one in rows] == [len(t.ids) for t in model.tokenizer(TEXTS)]
        body = {"input": TEXTS, "task": "token_embed", "use_activation": False}
        same = ok(server.post("/pooling", body))["data"]
        for one, other in zip(rows, same, strict=True):
            np.testing.assert_allclose(one, other["data"], atol=1e-6)

    def test_embed_sparse(self, servers):
        server = servers("splade")
        (row,) = ok(server.post("/embed_sparse", {"inputs": TEXTS[0]}))
        body = {"input": TEXTS[0], "task": "sparse"}
        dense = ok(server.post("/pooling", body))["data"][0]["data"]
        assert {one["index"]: one["value"] for one in row} == {
            one["id"]: pytest.approx(one["weight"]) for one in dense
        }

    def test_predict(self, servers):
        server = servers("cls")
        (first,), both = (
            ok(server.post("/predict", {"inputs": i})) for i in ([TEXTS[:1]], [[t] for t in TEXTS])
        )
        probs = classes(server, TEXTS)
        assert first == both[0] == sorted(first, key=lambda one: -one["score"])
        for shown, one in zip(both, probs, strict=True):
            assert [s["score"] for s in shown] == pytest.approx(sorted(one, reverse=True))
        raw = ok(server.post("/predict", {"inputs": TEXTS[0], "raw_scores": True}))
        logits = classes(server, TEXTS[:1], use_activation=False)[0]
        assert [one["score"] for one in raw] == pytest.approx(sorted(logits, reverse=True))

    def test_predict_pairs(self, servers):
        shown = ok(servers("ce").post("/predict", {"inputs": PAIRS}))
        body = {"text_1": PAIRS[0][0], "text_2": [two for _, two in PAIRS]}
        scores = [one["score"] for one in ok(servers("ce").post("/score", body))["data"]]
        assert [one["score"] for (one,) in shown] == pytest.approx(scores)
        assert servers("cls").post("/predict", {"inputs": PAIRS}).status_code == 400
        mixed = {"inputs": [["a"], ["a", "b"]]}
        assert "not both" in servers("ce").post("/predict", mixed).text
        for name in ("ce", "cls"):
            assert servers(name).post("/predict", {"inputs": []}).status_code == 400

    def test_similarity(self, servers, wanted):
        body = {"inputs": {"source_sentence": TEXTS[0], "sentences": TEXTS}}
        shown = ok(servers("minilm").post("/similarity", body))
        assert shown == pytest.approx((wanted @ wanted[0]).tolist(), abs=1e-5)

    def test_decode(self, servers):
        server = servers("minilm")
        ids = server.service.models.served[0].model.tokenizer(TEXTS)
        lists = [one.ids.tolist() for one in ids]
        assert ok(server.post("/decode", {"ids": lists})) == [text.lower() for text in TEXTS]
        (whole,) = ok(server.post("/decode", {"ids": lists[1], "skip_special_tokens": False}))
        assert whole == "[CLS] cat [SEP]"

    def test_info(self, servers):
        server = servers("minilm")
        facts = ok(server.client.get("/info"))
        assert facts["model_type"] == {"embedding": {"pooling": "MEAN"}}
        assert facts["max_input_length"] == server.service.models.served[0].model.max_length
        assert "reranker" in ok(servers("ce").client.get("/info"))["model_type"]
        assert "classifier" in ok(servers("cls").client.get("/info"))["model_type"]

    def test_routes_of_other_models_are_not_there(self, servers):
        assert servers("minilm").post("/embed_sparse", {"inputs": "cat"}).status_code == 404
        assert servers("minilm").post("/predict", {"inputs": "cat"}).status_code == 404


class TestOllama:
    def test_embed(self, servers, wanted):
        body = {"model": "minilm:latest", "input": TEXTS, "options": {"num_ctx": 8}}
        answer = ok(servers("minilm").post("/api/embed", body))
        np.testing.assert_allclose(answer["embeddings"], wanted, atol=1e-5)
        assert answer["model"] == "minilm:latest" and answer["prompt_eval_count"] == 12
        assert answer["total_duration"] > 0

    def test_the_older_route_has_one_text(self, servers, wanted):
        body = {"model": "minilm", "prompt": TEXTS[0]}
        answer = ok(servers("minilm").post("/api/embeddings", body))
        np.testing.assert_allclose(answer["embedding"], wanted[0], atol=1e-5)

    def test_tags(self, servers):
        (card,) = ok(servers("minilm").client.get("/api/tags"))["models"]
        assert card["name"] == "minilm:latest" and card["details"]["family"] == "bert"

    @pytest.mark.parametrize(
        "body, status",
        [
            ({"model": "other", "input": "cat"}, 404),
            ({"model": "minilm", "input": []}, 400),
            ({"model": "minilm", "input": "word " * 5000, "truncate": False}, 400),
            ({"input": "cat"}, 400),
        ],
    )
    def test_refuses(self, servers, body, status):
        response = servers("minilm").post("/api/embed", body)
        assert response.status_code == status and isinstance(response.json()["error"], str)

    def test_version(self, servers):
        client = servers("minilm").client
        assert ok(client.get("/api/version")) == ok(client.get("/version"))


class TestNim:
    """Bodies as langchain-nvidia-ai-endpoints 1.5.0 (NVIDIARerank, NVIDIAEmbeddings) sends them."""

    BODY = {
        "model": "ce",
        "query": {"text": PAIRS[0][0]},
        "passages": [{"text": two} for _, two in PAIRS],
    }

    def test_ranking(self, servers):
        answer = ok(servers("ce").post("/v1/ranking", self.BODY))
        body = {"text_1": PAIRS[0][0], "text_2": [two for _, two in PAIRS], "use_activation": False}
        logits = [one["score"] for one in ok(servers("ce").post("/score", body))["data"]]
        shown = {one["index"]: one["logit"] for one in answer["rankings"]}
        assert shown == {i: pytest.approx(logit) for i, logit in enumerate(logits)}
        assert [one["logit"] for one in answer["rankings"]] == sorted(logits, reverse=True)

    def test_long_passages(self, servers):
        body = self.BODY | {"passages": [{"text": "word " * 5000}]}
        assert servers("ce").post("/v1/ranking", body).status_code == 400
        assert ok(servers("ce").post("/v1/ranking", body | {"truncate": "END"}))["rankings"]

    def test_images_are_for_models_that_see(self, servers):
        image = {"text": "cat", "image": "data:image/png;base64,aGVsbG8="}
        response = servers("ce").post("/v1/ranking", self.BODY | {"passages": [image]})
        assert response.status_code == 400 and "MultiModalParam" in response.text

    def test_a_passage_of_nothing(self, servers):
        response = servers("ce").post("/v1/ranking", self.BODY | {"passages": [{}]})
        assert response.status_code == 400 and "a text, an image, or both" in response.text

    EMBEDDINGS = {"encoding_format": "float", "truncate": "NONE"}

    def test_sides_of_a_model_that_does_not_tell_them_apart(self, servers, wanted):
        for side in ("query", "passage"):
            body = self.EMBEDDINGS | {"input": TEXTS, "model": "minilm", "input_type": side}
            np.testing.assert_allclose(embeddings(servers("minilm"), body), wanted, atol=1e-5)
        response = servers("minilm").post("/v1/embeddings", body | {"input_type": "clustering"})
        assert response.status_code == 400 and "input_type" in response.text

    def test_sides_of_a_model_with_prompts(self, servers):
        body = self.EMBEDDINGS | {"model": "mat", "dimensions": 8}
        for side, prompt in (("query", "search for: "), ("passage", "passage: ")):
            typed = embeddings(servers("mat"), body | {"input": TEXTS, "input_type": side})
            texts = {"input": [prompt + text for text in TEXTS]}
            np.testing.assert_allclose(typed, embeddings(servers("mat"), body | texts), atol=1e-6)

    def test_long_texts(self, servers):
        body = {"input": ["a cat. " + "word " * 5000 + "a dog."], "model": "minilm"}
        assert servers("minilm").post("/v1/embeddings", body | self.EMBEDDINGS).status_code == 400
        end = {"truncate_prompt_tokens": -1}
        ways = {"END": end, True: end, "START": end | {"truncation_side": "left"}}  # True: Jina
        for cut, said in ways.items():
            found, wanted = (
                embeddings(servers("minilm"), body | more) for more in ({"truncate": cut}, said)
            )
            np.testing.assert_array_equal(found, wanted)


class TestVertex:
    """Requests as google-cloud-aiplatform 2.7.0 (LocalEndpoint, PrivateEndpoint) sends them."""

    def test_routes_are_those_of_the_environment(self):
        names = {"AIP_PREDICT_ROUTE": "/v1/predict", "AIP_HEALTH_ROUTE": "/v1/health"}
        assert [route.path for route in vertex.router(names).routes] == list(names.values())
        assert not vertex.router({}).routes

    def test_predict(self, start, folders, wanted, monkeypatch):
        monkeypatch.setenv("AIP_PREDICT_ROUTE", "/vertex")
        monkeypatch.setenv("AIP_HEALTH_ROUTE", "/alive")
        server = start([folders("minilm")])
        body = {"instances": [{"input": text} for text in TEXTS], "parameters": None}
        answer = ok(server.post("/vertex", body))
        vectors = [one["data"][0]["embedding"] for one in answer["predictions"]]
        np.testing.assert_allclose(vectors, wanted, atol=1e-5)
        assert server.client.get("/alive").status_code == 200
        bare = server.client.post("/vertex", content=json.dumps(body))  # names no content type
        assert ok(bare)["predictions"][1]["data"] == answer["predictions"][1]["data"]
        asked = {"instances": [{"inputs": TEXTS, "truncate": True}]}  # Hugging Face's containers
        np.testing.assert_allclose(
            ok(server.post("/vertex", asked))["predictions"][0], wanted, atol=1e-5
        )
        cut = {"instances": [{"input": TEXTS[0]}], "parameters": {"encoding_format": "base64"}}
        (one,) = ok(server.post("/vertex", cut))["predictions"]
        assert isinstance(one["data"][0]["embedding"], str)
        assert server.post("/vertex", {"instances": []}).status_code == 400
        assert server.post("/vertex", {"instances": [{"nothing": 1}]}).status_code == 400

    def test_port(self, monkeypatch):
        monkeypatch.setenv("AIP_HTTP_PORT", "8123")
        assert parse(["model"]).port == 8123
