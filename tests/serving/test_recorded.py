"""Requests and answers recorded from a real vLLM 0.32, played against this server.

Status, keys, types, messages and lengths must be vLLM's; for the real MiniLM the numbers and the
token counts too. `BEYOND` has the exchanges where this server does more, and what it does.
"""

import base64
import json
import re
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest

RECORDED = json.loads((Path(__file__).parent / "recorded.json").read_text(encoding="utf-8"))
REAL = {"minilm", "chunk", "auth"}
DTYPES = {
    "float32": (np.float32, 1e-5),
    "float16": (np.float16, 1e-3),
    "fp8_e4m3": (ml_dtypes.float8_e4m3fn, 2e-2),
}

# (server, exchange) -> the status here. Every other exchange is answered as vLLM answers it.
OURS = {"fingerprint"}  # fields that vLLM does not have
BEYOND = {
    ("minilm", "emb_normalize_removed"): 200,  # the older name of use_activation works
    ("minilm", "v2_int8"): 200,  # int8 and uint8 are supported
    ("minilm", "v2_uint8"): 200,
    ("minilm", "emb_encoding_null"): 200,  # null is the same as leaving a field out
    ("minilm", "rerank_top_null"): 200,
    ("cls", "pool_token_classify"): 200,  # any task of the model, in each request
    ("chunk", "pool_long"): 200,  # chunks of long texts on every route that embeds
    ("auth", "tokenize_messages"): 401,  # the key guards every route
    ("auth", "tokenize_messages_nogen"): 401,
    ("clip", "img_chat_string"): 200,  # every form of an image part
    ("clip", "img_chat_input_image"): 200,
    ("clip", "img_v2_type"): 200,  # pictures have no instruction: Cohere's clients say "image"
    ("clip", "img_rerank_jina"): 200,  # documents as Jina's clients write them
}
# The first error vLLM lists is about a branch of its union that the client did not mean.
CLEARER = {("ce", "score_ids"): "body.text_1", ("auth", "chat_bad_message"): "body.messages.0.role"}
# Answered alike, of other numbers: the content of a conversation is cut, where vLLM cuts what comes
# last, the end of the template (see tests/serving/test_chat.py).
OTHERS = {("auth", "chat_truncate")}
CASES = [
    (name, exchange)
    for name, exchanges in RECORDED.items()
    for exchange in exchanges
    if (name, exchange["name"]) not in {**BEYOND, **CLEARER}
]


def expand(value):
    """Bodies abbreviate long texts: `{"repeat": [text, times]}`."""
    if isinstance(value, dict) and "repeat" in value:
        text, times = value["repeat"]
        return text * times + value.get("then", "")
    if isinstance(value, dict) and "repeat_ids" in value:
        first, middle, times, last = value["repeat_ids"]
        return first + middle * times + last
    if isinstance(value, dict):
        return {name: expand(one) for name, one in value.items()}
    return [expand(one) for one in value] if isinstance(value, list) else value


def play(server, exchange):
    options = {"headers": exchange.get("headers", {})}
    if "raw_body" in exchange:
        options["content"] = exchange["raw_body"]
        options["headers"] = {"content-type": "application/json"} | options["headers"]
    elif exchange.get("body") is not None:
        options["json"] = expand(exchange["body"])
    return server.client.request(exchange["method"], exchange["path"], **options)


def compare(wanted, got, real, path=""):
    """`got` is what vLLM answered; numbers only where `real`, the dtype of the real model's, is."""
    if isinstance(wanted, dict):
        assert isinstance(got, dict) and set(got) - OURS == set(wanted), path
        for name, value in wanted.items():
            compare(value, got[name], real, f"{path}.{name}")
    elif isinstance(wanted, list):
        compare_lists(wanted, got, real, path)
    elif isinstance(wanted, str):
        compare_texts(wanted, got, real, path)
    elif isinstance(wanted, float) or isinstance(got, float):
        assert isinstance(got, float | int), path
        assert not real or abs(got - wanted) <= 1e-5, path
    elif wanted is None or isinstance(wanted, bool):
        assert got is wanted, path
    else:
        assert type(got) is int, path
        volatile = path.endswith("created") or not real
        assert volatile or got == wanted, path


def compare_lists(wanted, got, real, path):
    assert isinstance(got, list), path
    if wanted and isinstance(wanted[-1], str) and re.fullmatch(r"\.\.\. \d+ in all", wanted[-1]):
        assert not real or len(got) == int(wanted[-1].split()[1]), path
        wanted, got = wanted[:-1], got[: len(wanted) - 1]
    if real or path == ".data":
        assert len(got) == len(wanted), path
    for index, (one, other) in enumerate(zip(wanted, got, strict=False)):
        compare(one, other, real, f"{path}[{index}]")


def compare_texts(wanted, got, real, path):
    assert isinstance(got, str), path
    cut = re.fullmatch(r"(.*)\.\.\. \d+ characters in all", wanted, re.DOTALL)
    if path in (".id", ".metadata.id"):
        assert got.partition("-")[0] == wanted.partition("-")[0], path
    elif path in (".version", ".data[0].root") or ".permission" in path:
        assert got, path
    elif path.endswith((".embedding", ".data", "base64[0]")):
        compare_vectors(wanted, got, real, path)
    elif path.endswith(".message"):
        compare_messages(wanted, got)
    elif cut:
        assert got.startswith(cut[1]), path
    elif real or not path.endswith((".label", ".text", ".url")):
        assert got == wanted, path


def compare_vectors(wanted, got, real, path):
    """Base64, as far as the recording goes (it cuts long texts); an absent width is float32's."""
    size = len(wanted.partition("...")[0]) // 16 * 16
    one, other = (base64.b64decode(text[:size]) for text in (wanted, got))
    if real:
        dtype, tolerance = DTYPES[real]
        one, other = (np.frombuffer(x, dtype).astype(np.float32) for x in (one, other))
        np.testing.assert_allclose(other, one, atol=tolerance, err_msg=path)


def compare_messages(wanted, got):
    """Schema errors: the first entry decides, as a union of schemas repeats it for each branch."""
    if "validation error" in wanted:
        wanted, got = (text.splitlines()[1].partition("... ")[0] for text in (wanted, got))
        assert got.startswith(wanted) or wanted.startswith(got.partition(", 'input'")[0])
    elif wanted.startswith("Cannot find suitable handler"):
        assert got.startswith("Cannot find suitable handler for request. Expected one of: [")
    else:
        assert got == wanted


@pytest.mark.parametrize("name, exchange", CASES, ids=[f"{n}-{e['name']}" for n, e in CASES])
def test_answers_like_vllm(servers, name, exchange):
    response = play(servers(name), exchange)
    assert response.status_code == exchange["status"], response.text
    wanted = exchange["response"]
    body = exchange.get("body") or {}
    real = (
        name in REAL
        and (name, exchange["name"]) not in OTHERS
        and (body.get("embed_dtype", "float32") if "input" in body else "float32")
    )
    if exchange["kind"] == "empty":
        assert response.content == b""
    elif exchange["kind"] == "base64":
        metadata = json.loads(response.headers["metadata"]) if "metadata" in exchange else None
        compare(exchange.get("metadata"), metadata, real, ".metadata")
        assert response.headers["content-type"] == "application/octet-stream"
    else:
        got = response.json()
        if isinstance(wanted.get("error"), dict):
            flat = {key: got[key] for key in ("message", "type", "param", "code", "object")}
            assert flat == {"object": "error", **got["error"]}
            got = {"error": got["error"]}
        compare(wanted, got, real)


@pytest.mark.parametrize("name, exchange", BEYOND, ids=[f"{n}-{e}" for n, e in BEYOND])
def test_does_more_than_vllm(servers, name, exchange):
    recorded = next(e for e in RECORDED[name] if e["name"] == exchange)
    assert play(servers(name), recorded).status_code == BEYOND[name, exchange]


@pytest.mark.parametrize("name, exchange", CLEARER, ids=[f"{n}-{e}" for n, e in CLEARER])
def test_names_the_field_that_is_wrong(servers, name, exchange):
    recorded = next(e for e in RECORDED[name] if e["name"] == exchange)
    response = play(servers(name), recorded)
    error = response.json()["error"]
    assert (response.status_code, error["type"]) == (400, "Bad Request")
    assert error["param"] == CLEARER[name, exchange]
