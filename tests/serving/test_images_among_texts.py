"""Texts with pictures among them over HTTP: the same as offline, in every dialect."""

import numpy as np
import pytest
from images import joined_models
from images.photos import photo

from jaxpool.offline import collect
from jaxpool.scoring.pairs import prepare_scores
from jaxpool.text.prompts import of_parts
from tests.serving.test_images import PHOTO, chat, part, refusal, url, vectors

OTHER = photo(20, 30)
LITERAL = "What is <|image_pad|> in 語?"
BOTH = {"text": LITERAL, "image": PHOTO}
PROMPTS = [BOTH, {"image": PHOTO}, LITERAL, {"text": "abc", "image": [OTHER, PHOTO]}]


def text(words: str) -> dict:
    return {"type": "text", "text": words}


CONTENTS = [
    [part(url()), text(LITERAL)],
    [part(url())],
    [text(LITERAL)],
    [part(url(OTHER)), part(url()), text("abc")],
]


@pytest.fixture(scope="module")
def server(start, tmp_path_factory):
    folder = joined_models.qwen3_vl(tmp_path_factory.mktemp("qwen3-vl") / "m")
    reranker = folder.with_name("Qwen3-VL-Reranker-2B")
    reranker.symlink_to(folder)
    return start(
        [folder, reranker],
        served_model_name=["m", "reranker"],
        data_parallel_size=1,
        max_model_len=512,
        max_num_batched_tokens=512,
    )


@pytest.fixture(scope="module")
def model(server):
    return server.service.models.served[0].model


@pytest.fixture(scope="module")
def wanted(model):
    return model.encode(PROMPTS)


def test_conversations(server, wanted):
    """Parts in their order; a placeholder that a text spells out stays text."""
    several = {"messages": [chat(*content)["messages"] for content in CONTENTS]}
    for path, key in (("/v1/embeddings", "embedding"), ("/pooling", "data")):
        np.testing.assert_allclose(vectors(server, several, path, key), wanted, atol=1e-5)


def test_a_system_message_is_the_instruction(server, model):
    """As vLLM's clients ask for Qwen3-VL-Embedding, with an answer that is still empty."""
    turns = [("system", "Find it."), ("user", CONTENTS[0]), ("assistant", [text("")])]
    messages = [{"role": role, "content": content} for role, content in turns]
    found = vectors(server, {"messages": messages, "continue_final_message": True})
    told = model.encode(BOTH, prompt="Find it.")
    np.testing.assert_allclose(found[0], told, atol=1e-5)
    alone = [messages[0], {"role": "user", "content": LITERAL}]
    told = model.encode(LITERAL, prompt="Find it.")
    np.testing.assert_allclose(vectors(server, {"messages": alone})[0], told, atol=1e-5)


def test_order_of_parts(server, model):
    """A picture after a text, which `text` beside `image` cannot say."""
    content = [text("abc"), part(url(OTHER)), text("d"), part(url())]
    wanted = model.encode([of_parts(content)])
    np.testing.assert_allclose(vectors(server, chat(*content)), wanted, atol=1e-5)
    assert np.abs(wanted - model.encode([PROMPTS[3]])).max() > 1e-3


def test_cohere(server, wanted):
    body = {"model": "m", "inputs": [{"content": content} for content in CONTENTS]}
    answer = server.post("/v2/embed", body).json()
    np.testing.assert_allclose(answer["embeddings"]["float"], wanted, atol=1e-5)
    answer = server.post("/v2/embed", {"model": "m", "images": [url()]}).json()
    np.testing.assert_allclose(answer["embeddings"]["float"][0], wanted[1], atol=1e-5)


def test_jina_and_infinity(server, wanted):
    inputs = [{"image": url(), "text": LITERAL}, {"image": url()}, {"text": LITERAL}]
    np.testing.assert_allclose(vectors(server, {"input": inputs}), wanted[:3], atol=1e-5)
    found = vectors(server, {"input": [url()], "modality": "image"})
    np.testing.assert_allclose(found[0], wanted[1], atol=1e-5)
    np.testing.assert_allclose(vectors(server, {"input": LITERAL})[0], wanted[2], atol=1e-5)


def test_tokens_are_counted(server, model):
    """Those of pictures too: one for each vector of them."""
    answer = server.post("/v1/embeddings", chat(*CONTENTS[0])).json()
    (asked,) = model.requests(model.task("embed"), BOTH)
    assert answer["usage"]["prompt_tokens"] == len(asked.ids) > len(LITERAL)


def test_scores(server, model, wanted):
    """Cosines of an embedder, and answers of a reranker, whose prompt has both sides."""
    first, second, third = ({"content": content} for content in CONTENTS[:3])
    body = {"text_1": first, "text_2": [second, third, LITERAL]}
    answer = server.post("/score", body | {"model": "m"}).json()
    cosines = wanted[[1, 2, 2]] @ wanted[0]
    np.testing.assert_allclose([one["score"] for one in answer["data"]], cosines, atol=1e-5)
    reranker = server.service.models.served[1].model
    scoring = prepare_scores(reranker, first, [second, third, LITERAL])
    (asked,) = scoring.parts
    offline = scoring.combine(collect(reranker, asked.task, asked.requests))
    answer = server.post("/score", body | {"model": "reranker"}).json()
    np.testing.assert_allclose([one["score"] for one in answer["data"]], offline, rtol=1e-5)
    assert np.ptp(offline) > 1e-3
    documents = [{"image": url()}, third, LITERAL]
    body = {"query": first, "documents": documents, "model": "reranker"}
    results = server.post("/rerank", body).json()["results"]
    found = {one["index"]: one["relevance_score"] for one in results}
    np.testing.assert_allclose([found[i] for i in range(3)], offline, rtol=1e-5)


def test_ranking_of_passages_with_images(server):
    """As langchain-nvidia-ai-endpoints 1.5.0 sends them."""
    passages = [{"text": "", "image": url()}, {"text": LITERAL, "image": url()}, {"text": LITERAL}]
    body = {"model": "reranker", "query": {"text": "abc"}, "passages": passages}
    rankings = server.post("/v1/ranking", body).json()["rankings"]
    found = {one["index"]: one["logit"] for one in rankings}
    contents = [[part(url())], [part(url()), text(LITERAL)], [text(LITERAL)]]
    body = {"model": "reranker", "text_1": "abc", "use_activation": False}
    body["text_2"] = [{"content": content} for content in contents]
    wanted = [one["score"] for one in server.post("/score", body).json()["data"]]
    np.testing.assert_allclose([found[i] for i in range(3)], wanted, rtol=1e-5)
    assert np.ptp(wanted) > 1e-3


USER = {"role": "user", "content": "abc"}


@pytest.mark.parametrize(
    "body,message",
    [
        (chat(part("https://example.com/a.png"), text("abc")), "one of the allowed domains: []"),
        (chat(part("file:///etc/passwd"), text("abc")), "Cannot load local files without"),
        (chat(part("/etc/passwd"), text("abc")), "must be either a HTTP, data or file URL."),
        (chat(part("data:image/png;base64,aGVsbG8=")), "Failed to load image"),
        (chat(part(url(photo(1, 300)))), "aspect ratio"),
        (chat(text("a" * 600)), "maximum context length is 512"),
        ({"messages": [USER, USER]}, "one message of a user"),
        ({"messages": [USER, {"role": "assistant", "content": "I see."}]}, "one message of a user"),
        ({"messages": [{"role": "system", "content": [part(url())]}, USER]}, "must be of text"),
        ({"messages": [USER], "chat_template": "{{ messages }}"}, "has its own words"),
        (chat({"type": "text", "text": 5}), "must be a string"),
        ({"input": [joined_models.IDS["<|image_pad|>"]]}, "Found more"),
    ],
)
def test_what_is_refused(server, body, message):
    assert message in refusal(server, body)
