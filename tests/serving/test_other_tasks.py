"""/pooling, /classify, /score and /rerank, behaviour by behaviour."""

import numpy as np
import pytest
from tasks.bge_m3 import Reference
from transformers import AutoModelForSequenceClassification, AutoTokenizer

from jaxpool import LLM

TEXT = "The capital of France is Paris."
QUERY, DOCUMENTS = "Where is Paris?", [TEXT, "cat", "Hello my name is Alice and this is long."]


def post(server, path, status=200, **body):
    response = server.post(path, body)
    assert response.status_code == status, response.text
    return response.json()


def message(server, path, **body):
    return post(server, path, 400, **body)["error"]["message"]


def data(server, path, key, **body):
    return [one[key] for one in post(server, path, **body)["data"]]


def scores(server, text_1, text_2, **body):
    return data(server, "/score", "score", text_1=text_1, text_2=text_2, **body)


def reference(folder, pairs):
    """Logits of transformers' own model."""
    import torch

    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModelForSequenceClassification.from_pretrained(folder).eval()
    with torch.no_grad():
        return np.array(
            [model(**tokenizer(*p, return_tensors="pt")).logits[0].numpy() for p in pairs]
        )


class TestPooling:
    """/pooling."""

    def test_the_default_task(self, servers):
        answer = post(servers("minilm"), "/pooling", input=TEXT)
        assert answer["id"].startswith("pooling-") and answer["object"] == "list"
        (one,) = answer["data"]
        vector = data(servers("minilm"), "/v1/embeddings", "embedding", input=TEXT)[0]
        np.testing.assert_allclose(one["data"], vector, atol=1e-6)
        assert one["object"] == "pooling"

    @pytest.mark.parametrize("name, task", [("minilm", "token_embed"), ("cls", "token_classify")])
    def test_any_task_of_the_model_in_each_request(self, servers, name, task):
        answer = post(servers(name), "/pooling", input=TEXT, task=task)
        assert len(answer["data"][0]["data"]) == answer["usage"]["prompt_tokens"]

    def test_several_tasks_of_one_forward(self, servers):
        both = data(servers("minilm"), "/pooling", "data", input=TEXT, task="embed&token_embed")[0]
        for task in ("embed", "token_embed"):
            alone = data(servers("minilm"), "/pooling", "data", input=TEXT, task=task)[0]
            np.testing.assert_allclose(both[task], alone, atol=1e-5)

    def test_sparse_weights_have_their_tokens(self, servers, folders):
        weights = data(servers("splade"), "/pooling", "data", input=TEXT, task="sparse")[0]
        assert {tuple(one) for one in weights} == {("token", "id", "weight")}
        values = [one["weight"] for one in weights]
        assert values == sorted(values, reverse=True) and min(values) > 0
        tokenizer = AutoTokenizer.from_pretrained(folders("splade"))
        ids = [one["id"] for one in weights[:20]]
        assert [one["token"] for one in weights[:20]] == tokenizer.convert_ids_to_tokens(ids)

    def test_dense_sparse_and_token_vectors_of_one_forward(self, servers, folders):
        request = {"input": "Dogs bark.", "task": "embed&sparse&token_embed"}
        response = servers("hybrid").post("/pooling", request)
        (ours,) = [one["data"] for one in response.json()["data"]]
        dense, words, vectors = Reference(folders("hybrid"))("Dogs bark.")
        np.testing.assert_allclose(ours["embed"], dense, atol=1e-5)
        np.testing.assert_allclose(ours["token_embed"], vectors, atol=1e-5)
        assert {
            one["id"]: pytest.approx(one["weight"], abs=1e-5) for one in ours["sparse"]
        } == words
        assert {tuple(one) for one in ours["sparse"]} == {("token", "id", "weight")}
        assert response.headers["x-tokens"] == str(len(vectors) + 1)

    def test_queries_and_documents_have_their_own_markers(self, servers, folders):
        server, body = servers("marked"), {"input": TEXT, "task": "token_embed"}
        llm = LLM(str(folders("marked")))
        for side in ("document", "query"):
            ours = data(server, "/pooling", "data", **body, input_type=side)[0]
            (wanted,) = llm.encode(TEXT, pooling_task="token_embed", input_type=side)
            np.testing.assert_allclose(ours, wanted.outputs.data, atol=1e-5)
        assert len(data(server, "/pooling", "data", **body)[0]) < len(ours)
        passage = data(server, "/pooling", "data", **body, input_type="passage")[0]
        document = data(server, "/pooling", "data", **body, input_type="document")[0]
        assert passage == document
        post(server, "/pooling", 400, **body, input_type="clustering")

    def test_late_chunks(self, servers):
        params = {"late_chunking_params": {"chunk_size": 4}}
        (one,) = post(servers("tokemb"), "/v1/embeddings", input=TEXT, **params)["data"]
        assert np.array(one["embedding"]).shape == (3, 64)
        late = one["late_chunking"]
        assert (late["input_tokens"], late["strategy"]) == (9, "fixed_tokens")
        assert [chunk["token_range"] for chunk in late["chunks"]] == [[0, 4], [4, 8], [8, 9]]
        assert late["chunks"][0]["char_range"] == [0, 14]
        for bad in (0, "4"):
            params = {"late_chunking_params": {"chunk_size": bad}}
            post(servers("tokemb"), "/v1/embeddings", 400, input=TEXT, **params)

    def test_a_task_fixed_by_the_options(self, servers):
        text = message(servers("tokemb"), "/pooling", input=TEXT, task="embed")
        assert text.startswith("Try switching the model's pooling_task via")
        matrix = data(servers("tokemb"), "/pooling", "data", input=TEXT)[0]
        assert np.array(matrix).shape == (9, 64)

    @pytest.mark.parametrize(
        "body, text",
        [
            ({"input": "a", "task": "classify"}, "Unsupported task: 'classify'"),
            ({"input": "a", "dimensions": 8}, "dimensions is currently not supported"),
            ({"input": "a", "task": "encode"}, "`encode` task was removed"),
            ({"input": "a", "task": "score"}, "`score` task was removed"),
            ({"data": {}, "task": "plugin"}, "No IOProcessor plugin installed."),
            ({"input": "a", "task": "unheard"}, "literal_error"),
        ],
    )
    def test_refusals(self, servers, body, text):
        assert text in message(servers("minilm"), "/pooling", **body)


class TestClassify:
    """/classify."""

    def test_probabilities_and_label(self, servers, folders):
        (one,) = post(servers("cls"), "/classify", input=TEXT)["data"]
        assert one["label"] in ("negative", "neutral", "positive") and one["num_classes"] == 3
        assert abs(sum(one["probs"]) - 1) < 1e-5
        logits = data(servers("cls"), "/classify", "probs", input=TEXT, use_activation=False)[0]
        softmax = np.exp(logits) / np.exp(logits).sum()
        np.testing.assert_allclose(softmax, one["probs"], atol=1e-5)
        np.testing.assert_allclose(logits, reference(folders("cls"), [(TEXT,)])[0], atol=1e-4)

    def test_multi_label_is_sigmoid_and_regression_raw(self, servers):
        for name, function in (("multi", lambda x: 1 / (1 + np.exp(-x))), ("regression", float)):
            raw = data(servers(name), "/classify", "probs", input=TEXT, use_activation=False)[0]
            probs = data(servers(name), "/classify", "probs", input=TEXT)[0]
            np.testing.assert_allclose(probs, [function(x) for x in raw], atol=1e-5)

    def test_classes_of_a_request(self, servers, folders):
        labels, texts = ["cities", "animals"], [TEXT, DOCUMENTS[1]]
        asked = {"labels": labels, "hypothesis_template": "It is of {}."}
        found = post(servers("nli"), "/classify", input=texts, **asked)
        pairs = [(text, f"It is of {label}.") for text in texts for label in labels]
        entailed = np.exp(reference(folders("nli"), pairs)[:, 1].reshape(2, 2))
        probs = np.array([one["probs"] for one in found["data"]])
        np.testing.assert_allclose(probs, entailed / entailed.sum(1, keepdims=True), atol=1e-5)
        assert [one["label"] for one in found["data"]] == [labels[p.argmax()] for p in probs]
        assert found["usage"]["prompt_tokens"] > 4 * len("It is of".split())
        assert "'entailment'" in message(servers("cls"), "/classify", input=TEXT, labels=labels)
        assert "at least one" in message(servers("nli"), "/classify", input=TEXT, labels=[])

    def test_models_that_do_not_classify(self, servers):
        assert post(servers("minilm"), "/classify", 404) == {"detail": "Not Found"}


class TestScore:
    """/score."""

    @pytest.mark.parametrize("name", ["minilm", "ce", "tokemb"])
    def test_every_pair_of_names_and_every_shape(self, servers, name):
        server = servers(name)
        many = scores(server, QUERY, DOCUMENTS)
        for one, two in (("queries", "documents"), ("queries", "items"), ("data_1", "data_2")):
            named = data(server, "/v1/score", "score", **{one: QUERY, two: DOCUMENTS})
            np.testing.assert_allclose(named, many, atol=1e-5)
        single = [scores(server, QUERY, document)[0] for document in DOCUMENTS]
        np.testing.assert_allclose(single, many, atol=1e-5)
        both = scores(server, [QUERY] * 3, DOCUMENTS)
        np.testing.assert_allclose(both, many, atol=1e-5)

    def test_a_cross_encoder_is_that_of_transformers(self, servers, folders):
        logits = reference(folders("ce"), [(QUERY, d) for d in DOCUMENTS])[:, 0]
        raw = scores(servers("ce"), QUERY, DOCUMENTS, use_activation=False)
        np.testing.assert_allclose(raw, logits, atol=1e-4)
        np.testing.assert_allclose(
            scores(servers("ce"), QUERY, DOCUMENTS), 1 / (1 + np.exp(-logits)), atol=1e-4
        )

    def test_a_bi_encoder_is_the_cosine(self, servers):
        texts = [QUERY, *DOCUMENTS]
        q, *d = np.array(data(servers("minilm"), "/v1/embeddings", "embedding", input=texts))
        np.testing.assert_allclose(scores(servers("minilm"), QUERY, DOCUMENTS), d @ q, atol=1e-5)

    def test_late_interaction_is_the_sum_of_the_best(self, servers):
        texts = [QUERY, *DOCUMENTS]
        q, *d = map(np.array, data(servers("tokemb"), "/pooling", "data", input=texts))
        wanted = [(q @ one.T).max(axis=1).sum() for one in d]
        np.testing.assert_allclose(scores(servers("tokemb"), QUERY, DOCUMENTS), wanted, atol=1e-4)

    def test_weights_mix_dense_sparse_and_token_vectors(self, servers, folders):
        weights, texts = (0.4, 0.2, 0.4), ["Dogs bark.", "A cat's larynx vibrates."]
        found = scores(servers("hybrid"), "how do cats purr", texts, weights=weights)
        reference = Reference(folders("hybrid"))
        for score, text in zip(found, texts, strict=True):
            parts = reference.score("how do cats purr", text, weights)
            assert score == pytest.approx(parts["colbert+sparse+dense"], abs=1e-4)
        for name, body in (("hybrid", [1, 2]), ("minilm", weights)):
            text = message(servers(name), "/score", text_1="a", text_2="b", weights=body)
            assert text.startswith("weights")

    @pytest.mark.parametrize(
        "one, two, text",
        [
            (["a", "b"], ["a", "b", "c"], "Input lengths must be either 1:1, 1:N or N:N"),
            ([], ["a"], "At least one text element must be given"),
            ("a", [], "At least one text_pair element must be given"),
        ],
    )
    def test_shapes_that_are_refused(self, servers, one, two, text):
        assert message(servers("minilm"), "/score", text_1=one, text_2=two) == text

    def test_missing_sides_are_named(self, servers):
        error = post(servers("minilm"), "/score", 400, text_1="a")["error"]
        assert error["param"] == "body.text_2"

    def test_models_of_several_labels_do_not_score(self, servers):
        for path in ("/score", "/v1/score", "/rerank", "/v1/rerank", "/v2/rerank"):
            assert post(servers("cls"), path, 404) == {"detail": "Not Found"}


class TestRerank:
    """/rerank."""

    def results(self, server, path="/rerank", **body):
        body = {"query": QUERY, "documents": DOCUMENTS} | body
        return post(server, path, **body)["results"]

    @pytest.mark.parametrize("name", ["minilm", "ce", "tokemb"])
    def test_the_best_come_first(self, servers, name):
        results = self.results(servers(name))
        order = [one["relevance_score"] for one in results]
        assert order == sorted(order, reverse=True)
        wanted = scores(servers(name), QUERY, DOCUMENTS)
        for one in results:
            assert one["document"] == {"text": DOCUMENTS[one["index"]], "multi_modal": None}
            assert abs(one["relevance_score"] - wanted[one["index"]]) < 1e-5

    def test_every_path_answers_the_same(self, servers):
        wanted = self.results(servers("ce"))
        for path in ("/v1/rerank", "/v2/rerank"):
            assert self.results(servers("ce"), path) == wanted

    def test_top_n(self, servers):
        for top_n, count in ((2, 2), ("2", 2), (0, 3), (9, 3)):
            assert len(self.results(servers("ce"), top_n=top_n)) == count
        body = {"query": QUERY, "documents": DOCUMENTS, "top_n": -1}
        assert post(servers("ce"), "/rerank", 400, **body)["error"]["param"] == "body.top_n"

    def test_max_tokens_per_doc(self, servers):
        body = {"query": QUERY, "documents": [DOCUMENTS[2]]}
        whole, cut = (
            post(servers("ce"), "/rerank", **body, max_tokens_per_doc=n)["usage"]["prompt_tokens"]
            for n in (0, 3)
        )
        assert cut < whole
        said = servers("ce").post("/rerank", body | {"max_tokens_per_doc": 3}).headers
        assert said["x-truncated"] == "1"
        for bad in (-1, 96, 1000):
            assert "max_tokens_per_doc" in message(
                servers("ce"), "/rerank", **body, max_tokens_per_doc=bad
            )

    def test_an_instruction_needs_a_template(self, servers):
        plain = self.results(servers("ce"))
        assert self.results(servers("ce"), instruction="by colour") == plain
        server = servers("templated")
        assert self.results(server, instruction="by colour") != self.results(server)
        variables = {"instruction": "by colour"}
        assert self.results(server, instruction="by colour") == self.results(
            server, chat_template_kwargs=variables
        )
