"""Pictures over HTTP: conversations, Cohere's and Jina's inputs, and what is refused."""

import base64

import numpy as np
import pytest
from images import models, towers
from images.photos import encoded, photo

from jaxpool.offline import run

PHOTO = photo(60, 70)


def url(image=PHOTO, kind: str = "PNG") -> str:
    return f"data:image/{kind.lower()};base64,{base64.b64encode(encoded(image, kind)).decode()}"


def part(link: str) -> dict:
    return {"type": "image_url", "image_url": {"url": link}}


def chat(*parts) -> dict:
    return {"messages": [{"role": "user", "content": list(parts)}]}


@pytest.fixture(scope="module")
def server(start, tmp_path_factory):
    return start([models.save(tmp_path_factory.mktemp("clip") / "clip", "clip")])


@pytest.fixture(scope="module")
def model(server):
    return server.service.models.served[0].model


def vectors(server, body: dict, path: str = "/v1/embeddings", key: str = "embedding") -> np.ndarray:
    response = server.post(path, body)
    assert response.status_code == 200, response.text
    return np.array([one[key] for one in response.json()["data"]])


def refusal(server, body: dict, path: str = "/v1/embeddings") -> str:
    response = server.post(path, body)
    assert response.status_code == 400, response.text
    return response.json()["error"]["message"]


def test_conversations(server, model):
    """One picture a conversation, in every form of its part; texts go without a template."""
    wanted = model.encode([PHOTO, "a cat"])
    for form in (part(url()), {"image_url": url()}, {"type": "input_image", "image_url": url()}):
        np.testing.assert_allclose(vectors(server, chat(form))[0], wanted[0], atol=1e-5)
    found = vectors(server, chat(part(url())), "/pooling", "data")
    np.testing.assert_allclose(found[0], wanted[0], atol=1e-5)
    text = vectors(server, chat({"type": "text", "text": "a cat"}))
    np.testing.assert_allclose(text[0], wanted[1], atol=1e-5)
    several = [chat(part(url()))["messages"], chat("a cat")["messages"]]
    np.testing.assert_allclose(vectors(server, {"messages": several}), wanted, atol=1e-5)


def test_classes_of_pictures(start, tmp_path):
    """An image classifier answers conversations and URLs; a text is refused."""
    own = start([towers.save(tmp_path / "vit", "vit-classifier")])
    model = own.service.models.served[0].model
    (wanted,) = classes_of(model, PHOTO)
    for body in (chat(part(url())), {"input": [url()], "modality": "image"}):
        (found,) = own.post("/classify", body).json()["data"]
        np.testing.assert_allclose(found["probs"], wanted, atol=1e-5)
        assert found["label"] == ["cat", "dog", "house"][int(np.argmax(wanted))]
    assert "reads images alone" in refusal(own, {"input": "a text"}, "/classify")


def classes_of(model, image) -> list:
    task = model.task("classify")
    return run(model, task, [{"multi_modal_data": {"image": image}}])[1]


def test_a_picture_is_one_token(server):
    answer = server.post("/v1/embeddings", chat(part(url()))).json()
    assert answer["usage"]["prompt_tokens"] == answer["usage"]["total_tokens"] == 1


def test_jina_inputs(server, model):
    plain = base64.b64encode(encoded(PHOTO, "PNG")).decode()
    inputs = [{"image": url()}, {"text": "a cat"}, {"image": plain}]
    found = vectors(server, {"input": inputs})
    np.testing.assert_allclose(found, model.encode([PHOTO, "a cat", PHOTO]), atol=1e-5)


def test_infinity_inputs(server, model):
    body = {"input": [url(), url(photo(90, 20))], "modality": "image"}
    wanted = model.encode([PHOTO, photo(90, 20)])
    np.testing.assert_allclose(vectors(server, body), wanted, atol=1e-5)
    assert "URLs of images" in refusal(server, {"input": [[1, 2]], "modality": "image"})


def test_cohere(server, model):
    wanted = model.encode([PHOTO, "a cat"])
    answer = server.post("/v2/embed", {"model": "m", "images": [url(), url(photo(90, 20))]}).json()
    assert len(answer["embeddings"]["float"]) == 2
    np.testing.assert_allclose(answer["embeddings"]["float"][0], wanted[0], atol=1e-5)
    assert answer["meta"]["billed_units"] == {"input_tokens": 0, "image_tokens": 2}
    inputs = [{"content": [part(url())]}, {"content": [{"type": "text", "text": "a cat"}]}]
    kinds = ["float", "int8"]
    body = {"model": "m", "inputs": inputs, "embedding_types": kinds}
    answer = server.post("/v2/embed", body).json()
    np.testing.assert_allclose(answer["embeddings"]["float"], wanted, atol=1e-5)
    np.testing.assert_allclose(answer["embeddings"]["int8"], wanted * 127, atol=0.51)


def test_scores(server, model):
    """Texts with pictures, in every form; a text model refuses them."""
    cat, other, text = model.encode([PHOTO, photo(90, 20), "a cat"])
    content = [{"content": [part(url())]}, {"content": [part(url(photo(90, 20)))]}, "a cat"]
    answer = server.post("/score", {"text_1": "a cat", "text_2": content}).json()
    wanted = [text @ cat, text @ other, 1.0]
    np.testing.assert_allclose([one["score"] for one in answer["data"]], wanted, atol=1e-5)
    answer = server.post("/score", {"data_1": content[0], "data_2": content[1]}).json()
    assert abs(answer["data"][0]["score"] - cat @ other) < 1e-5


def test_reranking(server, model):
    cat, other, text = model.encode([PHOTO, photo(90, 20), "a cat"])
    documents = [{"image": url()}, {"content": [part(url(photo(90, 20)))]}, {"text": "a cat"}]
    results = server.post("/rerank", {"query": "a cat", "documents": documents}).json()["results"]
    found = {one["index"]: one for one in results}
    assert results[0]["index"] == 2 and found[2]["document"]["text"] == "a cat"
    assert found[1]["document"] == {"text": None, "multi_modal": documents[1]["content"]}
    scores = [found[i]["relevance_score"] for i in range(3)]
    np.testing.assert_allclose(scores, [text @ cat, text @ other, 1.0], atol=1e-5)


def test_scores_that_are_refused(server, servers):
    two = {"content": [part(url()), part(url())]}
    body = {"text_1": "a cat", "text_2": two}
    assert "At most 1 image(s)" in refusal(server, body, "/score")
    body["text_2"] = {"content": [part(url()), {"type": "text", "text": "a cat"}]}
    assert "not both" in refusal(server, body, "/score")
    assert "MultiModalParam is not supported" in refusal(servers("mat"), body, "/score")


@pytest.mark.parametrize(
    "body,message",
    [
        (chat(part(url()), part(url())), "At most 1 image(s) may be provided in one prompt."),
        (chat(part(url()), "a cat"), "accepts text-only or image-only inputs, not both"),
        (chat(part("data:image/png;base64,aGVsbG8=")), "Failed to load image"),
        (chat(part("data:image/png;base64,&")), "Invalid data URL"),
        (chat(part("data:image/png,abc")), "Only base64 data URLs are supported for now."),
        (chat(part("data:text/plain;base64,aGVsbG8=")), "wanted an image, found 'text/plain'"),
        (chat(part("data:image/png;base64")), "Invalid data URL"),
        (chat(part("http://169.254.169.254/latest")), "one of the allowed domains: []"),
        (chat(part("https://example.com/a.png")), "one of the allowed domains: []"),
        (chat(part("file:///etc/passwd")), "Cannot load local files without"),
        (chat(part("ftp://example.com")), "The URL must be either a HTTP, data or file URL."),
        (chat(part("/etc/passwd")), "The URL must be either a HTTP, data or file URL."),
        (chat({"type": "image_url", "image_url": {"link": ""}}), "must be a URL"),
        (chat({"type": "video_url", "video_url": {"url": ""}}), "Unsupported chat content part"),
        ({"input": [{"image": "no base64!"}]}, "Invalid data URL"),
    ],
)
def test_what_is_refused(server, body, message):
    assert message in refusal(server, body)


def test_untrusted_processing(server):
    body = chat(part(url())) | {"mm_processor_kwargs": {"crop_size": 28}}
    assert "Start the server with --trust-request-mm-kwargs" in refusal(server, body)


def test_a_text_model_takes_no_images(servers):
    assert "not a multimodal model" in refusal(servers("mat"), {"input": [{"image": url()}]})
