"""`run-batch`: the answers and errors of the server, in the order of the file."""

import json
from codecs import BOM_UTF8

import pytest

from serving.batch import run_file
from serving.lines import fault_of

REQUESTS = [
    ("/v1/embeddings", {"model": "m", "input": ["a cat", "dogs bark"]}),
    ("/v1/embeddings", {"model": "m", "input": "a cat", "encoding_format": "base64"}),
    ("/v1/embeddings", {"model": "other", "input": "a cat"}),
    ("/v1/embeddings", {"model": "m", "input": 3}),
    ("/v1/embeddings", {"model": "m", "input": "long " * 500}),
    ("/pooling", {"model": "m", "task": "token_embed", "input": "a cat"}),
    ("/score", {"model": "m", "queries": "cat", "documents": ["a cat", "dogs"]}),
    ("/rerank", {"model": "m", "query": "cat", "documents": ["dogs", "a cat"], "top_n": 1}),
    ("/classify", {"model": "m", "input": "a cat"}),
    ("/nowhere", {"model": "m"}),
]


def masked(body):
    """An answer without what differs from one to the next."""
    if isinstance(body, dict):
        return {k: masked(v) for k, v in body.items() if k not in ("id", "created")}
    if isinstance(body, list):
        return [masked(one) for one in body]
    return pytest.approx(body, abs=1e-5) if isinstance(body, float) else body


def write(path, requests):
    lines = [
        {"custom_id": str(i), "method": "POST", "url": url, "body": body}
        for i, (url, body) in enumerate(requests)
    ]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))


def answers_of(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


@pytest.mark.parametrize("kind", ["mat", "cls"])
def test_answers_are_the_servers(kind, start, folders, tmp_path):
    server = start([folders(kind)])
    write(tmp_path / "in.jsonl", REQUESTS)
    told = run_file(
        str(folders(kind)),
        str(tmp_path / "in.jsonl"),
        str(tmp_path / "out.jsonl"),
        4,
        served_model_name=["m"],
        dtype="float32",
    )
    found = answers_of(tmp_path / "out.jsonl")
    assert [one["custom_id"] for one in found] == [str(i) for i in range(len(REQUESTS))]
    for (url, body), one in zip(REQUESTS, found, strict=True):
        wanted = server.post(url, body)
        assert one["response"]["status_code"] == wanted.status_code, url
        if "base64" not in str(body):
            assert masked(one["response"]["body"]) == masked(wanted.json())
        assert (one["error"] is None) == (wanted.status_code == 200)
    assert told.failed == sum(one["error"] is not None for one in found) >= 4
    assert told.answered + told.failed == len(REQUESTS)


def test_bad_lines_have_their_own_errors(folders, tmp_path):
    good = {"custom_id": "x", "method": "POST", "url": "/v1/embeddings"}
    body = {"input": "a", "encoding_format": "bytes_only"}
    lines = ["{", "[]", json.dumps(good), json.dumps(good | {"body": []}), ""]
    lines += [json.dumps(good | {"body": body})]
    (tmp_path / "in.jsonl").write_text("".join(line + "\n" for line in lines))
    paths = str(tmp_path / "in.jsonl"), str(tmp_path / "out.jsonl")
    told = run_file(str(folders("mat")), *paths, 4)
    messages = [one["error"]["error"]["message"] for one in answers_of(tmp_path / "out.jsonl")]
    assert told.failed == len(messages) == 5
    wanted = ["not a JSON object", "not a JSON object", "no body", "body is no dict", "of bytes"]
    for message, part in zip(messages, wanted, strict=True):
        assert part in message


def test_a_byte_order_mark_is_no_error():
    """Editors of Windows put one before the first line; joined files have some further on."""
    request = {"custom_id": "x", "method": "POST", "url": "/score", "body": {}}
    assert fault_of(BOM_UTF8 + json.dumps(request).encode()) == (request, None)
