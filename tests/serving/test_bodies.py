"""What bodies may hold: null, both inputs, documents as objects, halves of characters, marks."""

import asyncio
import json

import numpy as np
import pytest
from posts import TEXT, cosine, vectors

from serving.protocol import Joined

HALF = rb"\ud83d"
ROUTES = {
    "/v1/embeddings": {"input": "cat"},
    "/pooling": {"input": "cat", "task": "embed"},
    "/v2/embed": {"texts": ["cat"]},
    "/score": {"text_1": "cat", "text_2": "dog"},
    "/rerank": {"query": "cat", "documents": ["dog"]},
    "/tokenize": {"prompt": "cat"},
    "/detokenize": {"tokens": [6]},
    "/": {"inputs": "cat"},
    "/invocations": {"input": "cat"},
}


def post(server, route, content):
    return server.client.post(route, content=content, headers={"content-type": "application/json"})


@pytest.fixture(scope="module")
def server(servers):
    return servers("minilm")


@pytest.mark.parametrize("route", ROUTES)
def test_half_of_a_surrogate_pair_is_a_bad_request(server, route):
    body = json.dumps(ROUTES[route]).encode()
    assert post(server, route, body).status_code == 200
    for field in (b"model", b"request_id", b"user", b"anything"):
        for half in (HALF, b"\xed\xa0\xbd"):  # escaped, and as bytes that no UTF-8 has
            odd = body[:-1] + b', "' + field + b'": "' + half + b'"}'
            response = post(server, route, odd)
            assert response.status_code == 400, (field, half, response.text)
    assert post(server, route, body.replace(b"cat", b"c" + HALF)).status_code in (200, 400)
    whole = body[:-1] + rb', "user": "\ud83d\ude42"}'
    assert post(server, route, whole).status_code == 200


def test_half_of_a_surrogate_pair_offline(minilm):
    with pytest.raises(ValueError, match=r"prompt 1 is no text.*'.ud83d'"):
        minilm.embed(["a cat", "a \ud83d"], use_tqdm=False)


@pytest.mark.parametrize("route", ROUTES)
def test_null_is_the_same_as_leaving_a_field_out(server, route):
    schema = server.client.get("/openapi.json").json()
    fields = {"top_n", "encoding_format", "dimensions", "truncate", "embedding_types"}
    body = schema["paths"][route]["post"].get("requestBody")
    if body:
        shape = body["content"]["application/json"]["schema"]
        for one in shape.get("anyOf", [shape]):
            name = one["$ref"].rpartition("/")[2]
            fields |= schema["components"]["schemas"][name]["properties"].keys()
    nulls = dict.fromkeys(fields - ROUTES[route].keys())
    plain = server.post(route, ROUTES[route]).json()
    answer = server.post(route, ROUTES[route] | nulls)
    assert answer.status_code == 200, answer.text
    if isinstance(plain, dict):
        assert answer.json().keys() == plain.keys()


def test_a_byte_order_mark(server):
    body = json.dumps({"input": TEXT}).encode("utf-8-sig")
    assert post(server, "/v1/embeddings", body).status_code == 200


def test_input_or_messages(server):
    both = {"input": TEXT, "messages": [{"role": "user", "content": "a"}]}
    for route in ("/v1/embeddings", "/pooling"):
        response = server.post(route, both)
        assert response.status_code == 400
        assert "either input or messages" in response.json()["error"]["message"]
    assert server.post("/v1/embeddings", both | {"messages": None}).status_code == 200


def test_documents_as_objects(server):
    texts = ["a cat", "a dog", "the law"]
    plain = server.post("/rerank", {"query": "kitten", "documents": texts}).json()
    objects = [{"text": text, "id": str(i)} for i, text in enumerate(texts)]
    body = {"query": {"text": "kitten"}, "documents": objects, "top_n": None}
    response = server.post("/rerank", body)
    assert response.status_code == 200, response.text
    assert response.json()["results"] == plain["results"]
    assert {one["document"]["text"] for one in plain["results"]} == set(texts)
    mixed = {"query": "kitten", "documents": [objects[0], *texts[1:]]}
    assert server.post("/rerank", mixed).json()["results"] == plain["results"]


@pytest.mark.parametrize("name", ["query", "search_query"])
def test_input_type_is_a_prompt(servers, name):
    mat = servers("mat")
    typed = vectors(mat, TEXT, input_type=name)
    np.testing.assert_allclose(typed, vectors(mat, "search for: " + TEXT), atol=1e-6)
    assert 1 - cosine(typed, vectors(mat, TEXT)) > 1e-3
    response = mat.post("/v1/embeddings", {"input": TEXT, "input_type": "clustering"})
    assert response.status_code == 400
    assert "Supported values: document, empty, query" in response.json()["error"]["message"]


class Sink:
    """A transport that notes what is written at once."""

    def __init__(self):
        self.written, self.closed = [], False

    def write(self, data):
        self.written.append(data)

    def writelines(self, parts):
        self.written.append(b"".join(parts))

    def is_closing(self):
        return self.closed

    def close(self):
        self.closed = True


def test_the_head_of_an_answer_goes_with_its_body():
    async def go():
        sink = Sink()
        joined = Joined(sink, asyncio.get_running_loop())
        joined.write(b"HTTP/1.1 200 OK\r\n\r\n")
        assert not sink.written
        joined.write(b"body")
        joined.write(b"more")
        joined.write(b"HTTP/1.1 204 No Content\r\n\r\n")
        await asyncio.sleep(0)  # nothing comes after it
        joined.write(b"HTTP/1.1 500 \r\n\r\n")
        joined.close()
        return sink

    sink = asyncio.run(go())
    assert sink.written == [
        b"HTTP/1.1 200 OK\r\n\r\nbody",
        b"more",
        b"HTTP/1.1 204 No Content\r\n\r\n",
        b"HTTP/1.1 500 \r\n\r\n",
    ]
    assert sink.closed
