"""/v2/embed, behaviour by behaviour."""

import base64

import numpy as np
import pytest
from posts import LONG, TEXT, cosine, vectors


@pytest.fixture(scope="module")
def server(servers):
    return servers("minilm")


def answer_of(server, status=200, **body):
    response = server.post("/v2/embed", {"texts": ["cat", TEXT], **body})
    assert response.status_code == status, response.text
    return response.json()


def test_floats(server):
    answer = answer_of(server)
    wanted = vectors(server, ["cat", TEXT])
    np.testing.assert_allclose(answer["embeddings"]["float"], wanted, atol=1e-5)
    assert answer["texts"] == ["cat", TEXT]
    assert answer["meta"]["api_version"]["version"] == "2"
    assert answer["meta"]["billed_units"] == {"input_tokens": 12, "image_tokens": 0}


def test_every_type(server):
    kinds = ["float", "int8", "uint8", "binary", "ubinary", "base64"]
    found = answer_of(server, embedding_types=kinds)["embeddings"]
    exact = np.array(found["float"])
    assert np.abs(np.array(found["int8"]) / 127 - exact).max() <= 0.5 / 127 + 1e-6
    np.testing.assert_array_equal(np.array(found["uint8"]), np.array(found["int8"]) + 128)
    np.testing.assert_array_equal(found["ubinary"], np.packbits(exact >= 0, axis=1))
    np.testing.assert_array_equal(np.array(found["binary"]), np.array(found["ubinary"]) - 128.0)
    decoded = [np.frombuffer(base64.b64decode(t), "<f4") for t in found["base64"]]
    np.testing.assert_allclose(decoded, exact, atol=1e-7)


@pytest.mark.parametrize(
    "kinds", [["int8"], ["uint8"], ["binary"], ["ubinary"], ["ubinary", "int8"]]
)
def test_bytes_alone_are_what_leaves_the_device(kinds, server, minilm, monkeypatch):
    engine, fetched = server.service.models.served[0].queue.engine.engine, []
    dispatch = engine.dispatch

    def spy(*call):
        outputs = dispatch(*call)
        fetched.extend(output.dtype for output in outputs)
        return outputs

    monkeypatch.setattr(engine, "dispatch", spy)
    found = answer_of(server, embedding_types=kinds)["embeddings"]
    assert sorted(found) == sorted(kinds)
    for kind in kinds:
        ours = minilm.model.encode(["cat", TEXT], precision=kind)
        np.testing.assert_array_equal(found[kind], ours)
    assert len(fetched) == len(kinds) and {dtype.itemsize for dtype in fetched} == {1}


@pytest.mark.parametrize("kinds", [["ubinary"], ["ubinary", "float"]])
def test_long_texts_are_joined_before_they_are_bits(kinds, servers):
    texts = [" ".join([TEXT] * 100), TEXT]
    body = {"texts": texts, "truncate": "NONE"}
    found = answer_of(servers("chunk"), embedding_types=kinds, **body)["embeddings"]
    exact = vectors(servers("chunk"), texts)
    sure = np.abs(exact) > 1e-6  # one feature of this model is always 1e-34
    assert sure.mean() > 0.99
    bits = np.unpackbits(np.array(found["ubinary"], np.uint8), axis=1)
    np.testing.assert_array_equal(bits[sure], exact[sure] > 0)


def test_bits_of_some_dimensions(servers, start, folders):
    exact = np.array(answer_of(servers("mat"), output_dimension=24)["embeddings"]["float"])
    found = answer_of(servers("mat"), output_dimension=24, embedding_types=["ubinary"])
    np.testing.assert_array_equal(found["embeddings"]["ubinary"], np.packbits(exact > 0, axis=1))
    odd = start([folders("mat")], hf_overrides={"matryoshka_dimensions": [12]})
    refusal = answer_of(odd, 400, output_dimension=12, embedding_types=["float", "binary"])
    assert (
        refusal["error"]["message"] == "binary embeddings need a multiple of 8 dimensions, not 12"
    )


def test_vectors_that_are_not_normalized(servers):
    raw = servers("raw")
    refusal = answer_of(raw, 400, embedding_types=["int8"])["error"]["message"]
    assert refusal == "precision 'int8' is of normalized vectors, and use_activation is off"
    found = answer_of(raw, embedding_types=["ubinary", "float"])["embeddings"]
    exact = np.array(found["float"])
    np.testing.assert_array_equal(found["ubinary"], np.packbits(exact > 0, axis=1))


def test_input_types_are_prompts(servers):
    mat = servers("mat")
    typed = answer_of(mat, input_type="query")["embeddings"]["float"]
    wanted = vectors(mat, ["search for: cat", "search for: " + TEXT])
    np.testing.assert_allclose(typed, wanted, atol=1e-6)
    message = answer_of(mat, 400, input_type="other")["error"]["message"]
    assert message == ("Unsupported input_type 'other'. Supported values: document, empty, query")


def test_input_type_of_a_model_without_prompts(server):
    message = answer_of(server, 400, input_type="query")["error"]["message"]
    assert "does not define any input_type task instructions" in message


def test_truncation(server):
    end, start = (
        answer_of(server, texts=[LONG + TEXT], truncate=side)["embeddings"]["float"]
        for side in ("END", "START")
    )
    assert 1 - cosine(end, start) > 1e-3
    answer_of(server, 400, texts=[LONG], truncate="NONE")
    answer = answer_of(server, texts=[LONG], max_tokens=7)
    assert answer["meta"]["billed_units"]["input_tokens"] == 7
    refusal = answer_of(server, 400, texts=[TEXT], max_tokens=4, truncate="NONE")
    assert "Input of 9 tokens exceeds max_tokens=4" in refusal["error"]["message"]


def test_output_dimension(servers, server):
    answer = answer_of(servers("mat"), output_dimension=8)
    assert np.array(answer["embeddings"]["float"]).shape == (2, 8)
    answer_of(servers("mat"), 400, output_dimension=9)
    answer_of(server, 400, output_dimension=64)


@pytest.mark.parametrize("body", [{}, {"texts": []}, {"texts": ["a"], "images": ["b"]}])
def test_exactly_one_input(server, body):
    response = server.post("/v2/embed", body)
    assert response.status_code == 400
    assert "Exactly one of texts, images, or inputs" in response.json()["error"]["message"]


def test_what_is_cut_of_a_conversation_is_content(start, folders, tmp_path):
    """The template stays, and its end does where a request cuts what comes first."""
    file = tmp_path / "chat.jinja"
    file.write_text("cat {% for m in messages %}{{ m.content }}{% endfor %} dog")
    server = start([folders("mat")], chat_template=str(file))
    inputs = [{"content": [{"type": "text", "text": "hello " * 50 + "world"}]}]
    kept = {"END": "cat hello hello hello dog", "START": "hello hello hello world dog"}
    for side, text in kept.items():
        body = {"inputs": inputs, "max_tokens": 5, "truncate": side}
        response = server.post("/v2/embed", body)
        assert response.headers["x-truncated"] == "1" and response.headers["x-tokens"] == "5"
        found = response.json()["embeddings"]["float"]
        wanted = vectors(server, text, add_special_tokens=False)
        np.testing.assert_allclose(found, wanted, atol=1e-6)
