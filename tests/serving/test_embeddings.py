"""/v1/embeddings, behaviour by behaviour."""

import base64
import json

import ml_dtypes
import numpy as np
import pytest
from posts import LONG, TEXT, cosine, embed, message, tokens, vectors

DTYPES = {
    "float32": np.float32,
    "float16": np.float16,
    "bfloat16": ml_dtypes.bfloat16,
    "fp8_e4m3": ml_dtypes.float8_e4m3fn,
    "fp8_e5m2": ml_dtypes.float8_e5m2,
}


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
    assert headers["x-tokens"] == "6" and headers["x-truncated"] == "0"
    cut = embed(server, ["a", LONG, LONG], truncate_prompt_tokens=8).headers
    assert cut["x-tokens"] == "19" and cut["x-truncated"] == "2"


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
