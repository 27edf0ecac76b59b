"""Official client libraries, unmodified, against a live server."""

import asyncio
import warnings
from contextlib import ExitStack

import httpx
import numpy as np
import pytest

TEXTS = ["The capital of France is Paris.", "cat"]


@pytest.fixture(scope="module")
def wanted(reference_minilm):
    return reference_minilm.encode(TEXTS)


@pytest.fixture
def http():
    """The transport of libraries that do not close their own."""
    with httpx.Client(timeout=60) as client:
        yield client


@pytest.fixture(scope="module")
def openai(servers):
    import openai

    with openai.OpenAI(base_url=servers("minilm").url + "/v1", api_key="none") as client:
        yield client


def test_openai(openai, wanted):
    answer = openai.embeddings.create(model="minilm", input=TEXTS)  # base64 by its own default
    np.testing.assert_allclose([one.embedding for one in answer.data], wanted, atol=1e-5)
    assert answer.usage.prompt_tokens == 12
    floats = openai.embeddings.create(model="minilm", input=TEXTS, encoding_format="float")
    np.testing.assert_allclose([one.embedding for one in floats.data], wanted, atol=1e-5)
    assert [model.id for model in openai.models.list()] == ["minilm"]


def test_openai_dimensions(servers):
    import openai

    with openai.OpenAI(base_url=servers("mat").url + "/v1", api_key="none") as client:
        answer = client.embeddings.create(model="mat", input="cat", dimensions=8)
    assert len(answer.data[0].embedding) == 8


def test_openai_exceptions(openai, servers):
    import openai as library

    with pytest.raises(library.BadRequestError, match="does not support Matryoshka") as error:
        openai.embeddings.create(model="minilm", input="cat", dimensions=8)
    assert error.value.body["type"] == "BadRequestError"
    with pytest.raises(library.NotFoundError, match="does not exist"):
        openai.embeddings.create(model="other", input="cat")
    with library.OpenAI(base_url=servers("auth").url + "/v1", api_key="wrong") as stranger:
        with pytest.raises(library.AuthenticationError):
            stranger.embeddings.create(model="first", input="cat")


def test_openai_async(servers, wanted):
    import openai

    async def go():
        async with openai.AsyncOpenAI(
            base_url=servers("minilm").url + "/v1", api_key="none"
        ) as client:
            calls = [client.embeddings.create(model="minilm", input=text) for text in TEXTS * 4]
            return await asyncio.gather(*calls)

    found = [answer.data[0].embedding for answer in asyncio.run(go())]
    np.testing.assert_allclose(found, np.tile(wanted, (4, 1)), atol=1e-5)


def test_cohere(servers, wanted, http):
    import cohere

    client = cohere.ClientV2("none", base_url=servers("minilm").url, httpx_client=http)
    answer = client.embed(
        model="minilm", texts=TEXTS, input_type=None, embedding_types=["float", "int8"]
    )
    np.testing.assert_allclose(answer.embeddings.float_, wanted, atol=1e-5)
    assert np.abs(np.array(answer.embeddings.int8) / 127 - wanted).max() < 0.005
    ranked = client.rerank(model="minilm", query="Where is Paris?", documents=TEXTS, top_n=1)
    assert [one.index for one in ranked.results] == [0]


def test_langchain(servers, wanted, http):
    from langchain_openai import OpenAIEmbeddings

    embedder = OpenAIEmbeddings(
        model="minilm",
        base_url=servers("minilm").url + "/v1",
        api_key="none",
        check_embedding_ctx_length=False,
        http_client=http,
    )
    np.testing.assert_allclose(embedder.embed_documents(TEXTS), wanted, atol=1e-5)
    np.testing.assert_allclose(embedder.embed_query(TEXTS[1]), wanted[1], atol=1e-5)


def test_llama_index(servers, wanted, http):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the library's own deprecations
        from llama_index.embeddings.openai import OpenAIEmbedding

        embedder = OpenAIEmbedding(
            model_name="minilm",
            api_base=servers("minilm").url + "/v1",
            api_key="none",
            http_client=http,
        )
        np.testing.assert_allclose(embedder.get_text_embedding_batch(TEXTS), wanted, atol=1e-5)


@pytest.fixture
def ollama(servers):
    import ollama

    with ExitStack() as stack:
        yield lambda *name: stack.enter_context(ollama.Client(servers(*name).url))


def test_ollama(ollama, wanted):
    client = ollama("minilm")
    given = {"truncate": True, "options": {"num_ctx": 256}, "keep_alive": "5m"}
    answer = client.embed("minilm", TEXTS, **given)
    np.testing.assert_allclose(answer.embeddings, wanted, atol=1e-5)
    assert answer.model == "minilm" and answer.prompt_eval_count == 12
    single = client.embed("minilm:latest", TEXTS[1], keep_alive=-1).embeddings
    older = client.embeddings("minilm", TEXTS[1]).embedding
    np.testing.assert_allclose([*single, older], wanted[[1, 1]], atol=1e-5)
    cut = ollama("mat").embed("mat", "cat", dimensions=8).embeddings
    assert np.linalg.norm(cut, axis=1) == pytest.approx([1]) and len(cut[0]) == 8


@pytest.mark.parametrize("apart", [False, True])
def test_ollama_models(ollama, apart):
    client = ollama("mat", apart)
    (card,), (running,) = client.list().models, client.ps().models
    assert card.model == running.model == "mat:latest" and card.details.family == "bert"
    shown = client.show(card.model)
    assert shown.capabilities == ["embedding"] and shown.details == card.details
    assert shown.modelinfo["bert.context_length"] == 96
    assert shown.modelinfo["bert.embedding_length"] == 64


def test_ollama_errors(ollama):
    from ollama import ResponseError

    client = ollama("minilm")
    for call, status, text in (
        (lambda: client.embed("other", "cat"), 404, "The model `other` does not exist."),
        (lambda: client.embed("minilm", []), 400, "input must not be empty"),
        (lambda: client.embed("minilm", "word " * 5000, truncate=False), 400, "maximum context"),
        (lambda: client.embed("minilm", "cat", dimensions=8), 400, "Matryoshka"),
        (lambda: client.embeddings("minilm"), 400, "Field required"),
    ):
        with pytest.raises(ResponseError) as caught:
            call()
        assert caught.value.status_code == status and text in caught.value.error


def test_ollama_decisions(ollama):
    asked = {"type": "choice", "instructions": "?", "criteria": {"calm": None, "pushy": "presses"}}
    questions = {"tone": asked, "spam": {"type": "noul", "instructions": "Is it spam?"}}
    answer = ollama("decider").systemone("decider", "Buy it now!", questions, keep_alive=0)
    assert sum(answer.answers["tone"].probabilities.values()) == pytest.approx(1)
    assert 0 < answer.answers["spam"].noul < 1


@pytest.fixture
def hub(monkeypatch):
    """`InferenceClient` on a server; the tests' offline mode would keep it from loopback too."""
    from huggingface_hub import InferenceClient, constants

    monkeypatch.setattr(constants, "is_offline_mode", lambda: False)
    with ExitStack() as stack:
        yield lambda server: stack.enter_context(InferenceClient(base_url=server.url))


def test_huggingface_hub(servers, wanted, hub):
    client = hub(servers("minilm"))
    np.testing.assert_allclose(client.feature_extraction(TEXTS), wanted, atol=1e-5)
    np.testing.assert_allclose(client.feature_extraction(TEXTS[0]), wanted[:1], atol=1e-5)
    raw = client.feature_extraction(TEXTS, normalize=False)
    np.testing.assert_allclose(raw / np.linalg.norm(raw, axis=1)[:, None], wanted, atol=1e-5)
    scores = client.sentence_similarity(TEXTS[0], other_sentences=TEXTS)
    np.testing.assert_allclose(scores, wanted @ wanted[0], atol=1e-5)
    named = hub(servers("mat")).feature_extraction("cat", prompt_name="query")
    long = hub(servers("mat")).feature_extraction("search for: cat" + " a" * 500, truncate=True)
    assert named.shape == long.shape == (1, 64)


def test_huggingface_hub_labels(servers, hub):
    client, labels = hub(servers("nli")), ["cities", "animals", "sports"]
    asked = {"labels": labels, "multi_label": True}
    (one,) = servers("nli").post("/classify", {"input": TEXTS[0]} | asked).json()["data"]
    found = client.zero_shot_classification(TEXTS[0], labels, multi_label=True)
    by_label = dict(zip(labels, one["probs"], strict=True))
    assert found[0].label == one["label"]
    assert {one.label: one.score for one in found} == pytest.approx(by_label)


def test_huggingface_hub_classes(servers, hub):
    client = hub(servers("cls"))
    answer = servers("cls").post("/classify", {"input": TEXTS[0]}).json()["data"][0]
    first, second = client.text_classification(TEXTS[0], top_k=2)
    assert first.label == answer["label"] and first.score == pytest.approx(max(answer["probs"]))
    assert second.score <= first.score
    with pytest.raises(Exception, match="400"):
        client.text_classification(TEXTS[0], top_k=0)
