"""/v1/embeddings and /v2/embed, behaviour by behaviour."""

import base64
import json

import ml_dtypes
import numpy as np
import pytest

TEXT = "The capital of France is Paris."
LONG = "word " * 300
DTYPES = {
    "float32": np.float32,
    "float16": np.float16,
    "bfloat16": ml_dtypes.bfloat16,
    "fp8_e4m3": ml_dtypes.float8_e4m3fn,
    "fp8_e5m2": ml_dtypes.float8_e5m2,
}


def embed(server, input, status=200, **body):
    response = server.post("/v1/embeddings", {"input": input, **body})
    assert response.status_code == status, response.text
    return response


def vectors(server, input, **body):
    data = embed(server, input, **body).json()["data"]
    return np.array([one["embedding"] for one in data])


def tokens(server, input, **body):
    return embed(server, input, **body).json()["usage"]["prompt_tokens"]


def message(server, input, **body):
    error = embed(server, input, 400, **body).json()["error"]
    return error["message"]


def cosine(a, b):
    a, b = np.ravel(a).astype(float), np.ravel(b).astype(float)
    return a @ b / np.linalg.norm(a) / np.linalg.norm(b)


@pytest.fixture(scope="module")
def server(servers):
    return servers("minilm")


@pytest.fixture(scope="module")
def ids(minilm):
    return minilm.get_tokenizer()(TEXT)["input_ids"]


def test_a_text_gives_one_vector_and_its_usage(server, ids):
    answer = embed(server, TEXT).json()
    assert answer["id"].startswith("embd-") and answer["object"] == "list"
    assert answer["usage"]["prompt_tokens"] == answer["usage"]["total_tokens"] == len(ids)
    assert answer["usage"]["completion_tokens"] == 0
    (one,) = answer["data"]
    assert (one["index"], one["object"], len(one["embedding"])) == (0, "embedding", 384)


def test_vectors_are_those_of_sentence_transformers(server, reference_minilm):
    texts = [TEXT, "cat", "", "日本語"]
    np.testing.assert_allclose(vectors(server, texts), reference_minilm.encode(texts), atol=1e-5)


def test_ids_give_the_vector_of_their_text(server, ids):
    wanted = vectors(server, TEXT)
    np.testing.assert_allclose(vectors(server, ids), wanted, atol=1e-5)
    np.testing.assert_allclose(vectors(server, [ids, ids]), [wanted[0]] * 2, atol=1e-5)


def test_lists_keep_their_order(server):
    data = embed(server, [TEXT, "cat", "dog"]).json()["data"]
    assert [one["index"] for one in data] == [0, 1, 2]
    alone = [vectors(server, text)[0] for text in (TEXT, "cat", "dog")]
    np.testing.assert_allclose([one["embedding"] for one in data], alone, atol=1e-5)


@pytest.mark.parametrize("endianness", ["native", "big", "little"])
@pytest.mark.parametrize("dtype", DTYPES)
def test_base64_decodes_to_the_vector(server, dtype, endianness):
    options = {"encoding_format": "base64", "embed_dtype": dtype, "endianness": endianness}
    raw = base64.b64decode(embed(server, TEXT, **options).json()["data"][0]["embedding"])
    kind = np.dtype(DTYPES[dtype])
    bits = np.frombuffer(raw, f"u{kind.itemsize}")
    bits = bits.byteswap() if endianness == "big" else bits
    assert 1 - cosine(bits.view(kind).astype(np.float32), vectors(server, TEXT)) <= 1e-2


def test_bytes_carry_their_places_in_a_header(server):
    response = embed(server, [TEXT, "cat"], encoding_format="bytes", embed_dtype="float16")
    metadata = json.loads(response.headers["metadata"])
    for one, wanted in zip(metadata["data"], vectors(server, [TEXT, "cat"]), strict=True):
        part = np.frombuffer(response.content[one["start"] : one["end"]], np.float16)
        assert list(part.shape) == one["shape"] and 1 - cosine(part, wanted) < 1e-5
    assert metadata["usage"]["prompt_tokens"] == 12
    only = embed(server, [TEXT, "cat"], encoding_format="bytes_only", embed_dtype="float16")
    assert only.content == response.content and "metadata" not in only.headers


@pytest.mark.parametrize("field", ["encoding_format", "embed_dtype", "endianness"])
def test_a_bad_encoding_is_named(server, field):
    error = embed(server, TEXT, 400, **{field: "float7"}).json()["error"]
    assert "literal_error" in error["message"] and "float7" in error["message"]
    assert error["type"] == "Bad Request" and error["param"] == f"body.{field}"


def test_activation_is_normalization(servers):
    mat = servers("mat")
    raw = vectors(mat, TEXT, use_activation=False)
    unit = vectors(mat, TEXT, use_activation=True)
    assert abs(np.linalg.norm(raw) - 1) > 0.1
    np.testing.assert_allclose(unit, raw / np.linalg.norm(raw), atol=1e-5)
    np.testing.assert_allclose(vectors(mat, TEXT), unit, atol=1e-6)
    for older in ("normalize", "softmax"):
        np.testing.assert_allclose(vectors(mat, TEXT, **{older: False}), raw, atol=1e-6)


def test_a_model_without_a_normalize_module_gives_raw_vectors(servers):
    assert abs(np.linalg.norm(vectors(servers("raw"), TEXT)) - 1) > 0.1


@pytest.mark.parametrize("dimensions", [0, 16, 384])
def test_dimensions_need_a_matryoshka_model(server, dimensions):
    assert "does not support Matryoshka" in message(server, TEXT, dimensions=dimensions)


def test_matryoshka_dimensions(servers):
    mat = servers("mat")
    whole = vectors(mat, TEXT, use_activation=False)
    for size in (8, 24, 64):
        cut = vectors(mat, TEXT, dimensions=size)
        wanted = whole[:, :size] / np.linalg.norm(whole[:, :size])
        np.testing.assert_allclose(cut, wanted, atol=1e-5)
    for size in (16, 0, -1, 65):
        text = message(mat, TEXT, dimensions=size)
        assert ("[8, 24, 64]" if size == 16 else "[1, 64]") in text


def test_truncation(server, minilm):
    assert tokens(server, LONG, truncate_prompt_tokens=10) == 10
    assert tokens(server, LONG, truncate_prompt_tokens="7") == 7
    assert tokens(server, LONG, truncate_prompt_tokens=-1) == 256
    error = embed(server, LONG, 400, truncate_prompt_tokens=257).json()["error"]
    assert error["type"] == "BadRequestError"
    assert error["message"] == (
        "truncate_prompt_tokens value is greater than max_model_len. "
        "Please request a smaller truncation size."
    )
    assert embed(server, LONG, 400, truncate_prompt_tokens=-2).json()["error"]["type"] == (
        "Bad Request"
    )
    assert "cannot be empty" in message(server, TEXT, truncate_prompt_tokens=0)


def test_truncation_sides(server):
    left, right = (
        vectors(server, TEXT, truncate_prompt_tokens=5, truncation_side=side)
        for side in ("left", "right")
    )
    assert 1 - cosine(left, right) > 1e-2
    assert "literal_error" in message(server, TEXT, truncation_side="middle")


def test_a_text_that_is_too_long(server):
    error = embed(server, LONG, 400).json()["error"]
    assert "Please reduce the length of the input prompt" in error["message"]
    assert error["param"] == "input_tokens"


@pytest.mark.parametrize(
    "input, text",
    [
        ([], "You must pass at least one prompt"),
        ([[]], "cannot be empty"),
        (["a", 1], "validation error"),
        ([101, 999999, 102], "out of vocabulary"),
        ([-5], "out of vocabulary"),
    ],
)
def test_inputs_that_are_refused(server, input, text):
    assert text in message(server, input)


def test_the_empty_text_is_two_special_tokens(server):
    assert tokens(server, "") == 2
    assert tokens(server, TEXT, add_special_tokens=False) == tokens(server, TEXT) - 2


@pytest.mark.parametrize(
    "content, kind, param, text",
    [
        (b"{}", "application/json", "body.input", "Field required"),
        (b"{no", "application/json", "body.1", "JSON decode error"),
        (b"", "application/json", "body", "validation error"),
        (b'{"input": "a"}', "text/plain", None, "Unsupported Media Type"),
    ],
)
def test_bodies_that_are_no_request(server, content, kind, param, text):
    response = server.client.post("/v1/embeddings", content=content, headers={"content-type": kind})
    error = response.json()["error"]
    assert (response.status_code, error["type"], error["param"]) == (400, "Bad Request", param)
    assert text in error["message"]


def test_names_of_the_model(server):
    for name in ({"model": "minilm"}, {"model": None}, {"model": ""}, {}):
        assert embed(server, TEXT, **name).json()["model"] == "minilm"
    error = embed(server, TEXT, 404, model="other").json()["error"]
    assert (error["type"], error["code"]) == ("NotFoundError", 404)
    assert error["message"] == "The model `other` does not exist."
    assert embed(server, TEXT, unheard_of=1, user="me", priority=3).status_code == 200


def test_the_request_id_becomes_the_id(server):
    headers = {"X-Request-Id": "abc"}
    response = server.post("/v1/embeddings", {"input": "a"}, headers=headers)
    assert response.json()["id"] == "embd-abc" and "x-request-id" not in response.headers
    assert embed(server, "a", request_id="of-body").json()["id"] == "embd-of-body"


def test_timing_headers(server):
    headers = embed(server, ["a", "b"]).headers
    assert float(headers["x-queue-time"]) >= 0 and float(headers["x-inference-time"]) > 0
    assert headers["x-tokens"] == "6"


def test_prompt_name_puts_the_prompt_first(servers):
    mat = servers("mat")
    named, given = vectors(mat, TEXT, prompt_name="query"), vectors(mat, "search for: " + TEXT)
    np.testing.assert_allclose(named, given, atol=1e-6)
    assert "document" in message(mat, TEXT, prompt_name="other")


def test_padding_counts(server):
    assert tokens(server, "cat", padding="max_length") == 256
    assert tokens(server, "cat", padding="do_not_pad") == 3


@pytest.mark.parametrize(
    "body", [{"mm_processor_kwargs": {"a": 1}}, {"cache_salt": "a/b"}, {"cache_salt": ""}]
)
def test_fields_that_mean_nothing_here_are_refused_as_by_vllm(server, body):
    embed(server, "a", 400, **body)


def test_concurrent_requests_give_the_vectors_of_one_by_one(server):
    from concurrent.futures import ThreadPoolExecutor

    texts = [f"text {i} " + "and more " * (i % 17) for i in range(48)]
    alone = [vectors(server, text)[0] for text in texts]
    with ThreadPoolExecutor(16) as pool:
        together = list(pool.map(lambda text: vectors(server, text)[0], texts))
    np.testing.assert_allclose(together, alone, atol=1e-5)


def test_token_vectors(servers):
    tokemb = servers("tokemb")
    answer = embed(tokemb, [TEXT, "cat"]).json()
    for one in answer["data"]:
        assert np.array(one["embedding"]).shape[1] == 64
    assert sum(len(one["embedding"]) for one in answer["data"]) == answer["usage"]["prompt_tokens"]
    assert tokemb.post("/v2/embed", {"texts": ["a"]}).json() == {"detail": "Not Found"}


def test_a_text_beyond_the_model_is_cut_into_chunks(servers, server):
    chunk, long = servers("chunk"), " ".join([TEXT] * 100)
    answer = embed(chunk, long).json()
    (vector,) = [one["embedding"] for one in answer["data"]]
    assert answer["usage"]["prompt_tokens"] == 2 + 7 * 100 > 2 * 256
    assert abs(np.linalg.norm(vector) - 1) < 1e-5
    np.testing.assert_allclose(vectors(chunk, TEXT), vectors(server, TEXT), atol=1e-5)
    assert "Please reduce the length" in message(chunk, long * 2)


class TestChat:
    """Conversations, on a server with a template and a key."""

    messages = [{"role": "user", "content": "hello"}, {"role": "assistant", "content": "cat"}]
    rendered = "user: hello\nassistant: cat\n"

    def vectors(self, servers, status=200, **body):
        headers = {"Authorization": "Bearer sekret"}
        response = servers("auth").post("/v1/embeddings", body, headers=headers)
        assert response.status_code == status, response.text
        if status != 200:
            return response.json()["error"]["message"]
        return np.array([one["embedding"] for one in response.json()["data"]])

    def test_messages_are_the_rendered_text_without_special_tokens(self, servers):
        chat = self.vectors(servers, messages=self.messages)
        text = self.vectors(servers, input=self.rendered, add_special_tokens=False)
        np.testing.assert_allclose(chat, text, atol=1e-6)
        np.testing.assert_allclose(self.vectors(servers, input=self.messages), text, atol=1e-6)

    def test_flags(self, servers):
        prompt = self.vectors(servers, messages=self.messages, add_generation_prompt=True)
        wanted = self.vectors(servers, input=self.rendered + "assistant:", add_special_tokens=False)
        np.testing.assert_allclose(prompt, wanted, atol=1e-6)
        going_on = self.vectors(servers, messages=self.messages, continue_final_message=True)
        wanted = self.vectors(
            servers, input="user: hello\nassistant: cat", add_special_tokens=False
        )
        np.testing.assert_allclose(going_on, wanted, atol=1e-6)
        special = self.vectors(servers, messages=self.messages, add_special_tokens=True)
        np.testing.assert_allclose(special, self.vectors(servers, input=self.rendered), atol=1e-6)
        both = {"add_generation_prompt": True, "continue_final_message": True}
        assert "Cannot set both" in self.vectors(servers, 400, messages=self.messages, **both)

    def test_several_conversations(self, servers):
        one, two = self.messages, [{"role": "user", "content": "dog"}]
        batch = self.vectors(servers, messages=[one, two])
        alone = [self.vectors(servers, messages=m)[0] for m in (one, two)]
        np.testing.assert_allclose(batch, alone, atol=1e-5)

    def test_parts_of_text(self, servers):
        parts = [{"type": "text", "text": "hello"}, {"type": "text", "text": "world"}]
        chat = self.vectors(servers, messages=[{"role": "user", "content": parts}])
        text = self.vectors(servers, input="user: hello\nworld\n", add_special_tokens=False)
        np.testing.assert_allclose(chat, text, atol=1e-6)
        image = [{"type": "image_url", "image_url": {"url": "data:,"}}]
        refusal = self.vectors(servers, 400, messages=[{"role": "user", "content": image}])
        assert refusal == "first is not a multimodal model"

    def test_templates_of_requests_are_not_trusted(self, servers):
        own = {"messages": self.messages, "chat_template": "{{ messages[0].content }}"}
        assert "untrusted chat template" in self.vectors(servers, 400, **own)

    @pytest.mark.parametrize(
        "messages, text",
        [([], "You must pass at least one prompt"), ([[]], "cannot be empty")],
    )
    def test_nobody_says_anything(self, servers, messages, text):
        assert text in self.vectors(servers, 400, messages=messages)

    def test_without_a_template(self, server):
        response = server.post("/v1/embeddings", {"messages": self.messages})
        assert response.status_code == 400
        assert "default chat template is no longer allowed" in response.json()["error"]["message"]


class TestCohere:
    """/v2/embed."""

    def answer(self, server, status=200, **body):
        response = server.post("/v2/embed", {"texts": ["cat", TEXT], **body})
        assert response.status_code == status, response.text
        return response.json()

    def test_floats(self, server):
        answer = self.answer(server)
        wanted = vectors(server, ["cat", TEXT])
        np.testing.assert_allclose(answer["embeddings"]["float"], wanted, atol=1e-5)
        assert answer["texts"] == ["cat", TEXT]
        assert answer["meta"]["api_version"]["version"] == "2"
        assert answer["meta"]["billed_units"] == {"input_tokens": 12, "image_tokens": 0}

    def test_every_type(self, server):
        kinds = ["float", "int8", "uint8", "binary", "ubinary", "base64"]
        found = self.answer(server, embedding_types=kinds)["embeddings"]
        exact = np.array(found["float"])
        assert np.abs(np.array(found["int8"]) / 127 - exact).max() <= 0.5 / 127 + 1e-6
        np.testing.assert_array_equal(np.array(found["uint8"]), np.array(found["int8"]) + 128)
        np.testing.assert_array_equal(found["ubinary"], np.packbits(exact >= 0, axis=1))
        np.testing.assert_array_equal(np.array(found["binary"]), np.array(found["ubinary"]) - 128.0)
        decoded = [np.frombuffer(base64.b64decode(t), "<f4") for t in found["base64"]]
        np.testing.assert_allclose(decoded, exact, atol=1e-7)

    def test_input_types_are_prompts(self, servers):
        mat = servers("mat")
        typed = self.answer(mat, input_type="query")["embeddings"]["float"]
        wanted = vectors(mat, ["search for: cat", "search for: " + TEXT])
        np.testing.assert_allclose(typed, wanted, atol=1e-6)
        message = self.answer(mat, 400, input_type="other")["error"]["message"]
        assert message == (
            "Unsupported input_type 'other'. Supported values: document, empty, query"
        )

    def test_input_type_of_a_model_without_prompts(self, server):
        message = self.answer(server, 400, input_type="query")["error"]["message"]
        assert "does not define any input_type task instructions" in message

    def test_truncation(self, server):
        end, start = (
            self.answer(server, texts=[LONG + TEXT], truncate=side)["embeddings"]["float"]
            for side in ("END", "START")
        )
        assert 1 - cosine(end, start) > 1e-3
        self.answer(server, 400, texts=[LONG], truncate="NONE")
        answer = self.answer(server, texts=[LONG], max_tokens=7)
        assert answer["meta"]["billed_units"]["input_tokens"] == 7
        refusal = self.answer(server, 400, texts=[TEXT], max_tokens=4, truncate="NONE")
        assert "Input of 9 tokens exceeds max_tokens=4" in refusal["error"]["message"]

    def test_output_dimension(self, servers, server):
        answer = self.answer(servers("mat"), output_dimension=8)
        assert np.array(answer["embeddings"]["float"]).shape == (2, 8)
        self.answer(servers("mat"), 400, output_dimension=9)
        self.answer(server, 400, output_dimension=64)

    @pytest.mark.parametrize("body", [{}, {"texts": []}, {"texts": ["a"], "images": ["b"]}])
    def test_exactly_one_input(self, server, body):
        response = server.post("/v2/embed", body)
        assert response.status_code == 400
        assert "Exactly one of texts, images, or inputs" in response.json()["error"]["message"]
