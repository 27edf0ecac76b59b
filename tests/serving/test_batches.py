"""/v1/files and /v1/batches by OpenAI's client: answers, errors, cancelling, restarts."""

import asyncio
import json
import time

import httpx
import openai
import pytest

from serving.batches import Batches, check, whole_lines
from serving.store import Store

MODEL = "mat"


@pytest.fixture(scope="module")
def server(start, folders, tmp_path_factory):
    folder = tmp_path_factory.mktemp("uploads") / "batches"
    return start([folders(MODEL)], batch_folder=str(folder), max_file_bytes=1_000_000)


@pytest.fixture(scope="module")
def client(server):
    return openai.OpenAI(base_url=server.url + "/v1", api_key="none", max_retries=0)


def line(number, body, url="/v1/embeddings"):
    return {"custom_id": f"n{number}", "method": "POST", "url": url, "body": body}


def uploaded(client, lines):
    content = "".join((one if isinstance(one, str) else json.dumps(one)) + "\n" for one in lines)
    return client.files.create(file=("in.jsonl", content.encode()), purpose="batch")


def ended(client, batch, seconds=60):
    """The batch once nothing more is done for it."""
    until = time.monotonic() + seconds
    while batch.status in ("validating", "in_progress", "finalizing", "cancelling"):
        assert time.monotonic() < until, batch
        time.sleep(0.02)
        batch = client.batches.retrieve(batch.id)
    return batch


def begun(client, lines, endpoint="/v1/embeddings"):
    file = uploaded(client, lines)
    return client.batches.create(
        input_file_id=file.id, endpoint=endpoint, completion_window="24h", metadata={"a": "b"}
    )


def answers_of(client, name):
    return [json.loads(one) for one in client.files.content(name).text.splitlines()]


def test_answers_and_errors_are_the_servers(server, client):
    bodies = [{"model": "m", "input": f"text {i}"} for i in range(70)]
    bodies[7] = {"model": "m", "input": 3}
    bodies[9] = {"model": "other", "input": "a"}
    batch = ended(client, begun(client, [line(i, body) for i, body in enumerate(bodies)]))
    assert batch.status == "completed" and batch.metadata == {"a": "b"}
    counts = batch.request_counts
    assert (counts.total, counts.completed, counts.failed) == (70, 68, 2)
    good, bad = answers_of(client, batch.output_file_id), answers_of(client, batch.error_file_id)
    assert [one["custom_id"] for one in good] == [f"n{i}" for i in range(70) if i not in (7, 9)]
    assert [one["custom_id"] for one in bad] == ["n7", "n9"]
    assert [one["response"]["status_code"] for one in bad] == [400, 404]
    wanted = server.post("/v1/embeddings", bodies[20]).json()["data"][0]["embedding"]
    found = next(one for one in good if one["custom_id"] == "n20")
    assert found["response"]["body"]["data"][0]["embedding"] == pytest.approx(wanted, abs=1e-5)


@pytest.mark.parametrize(
    "lines, code",
    [
        (["{"], "invalid_request"),
        (["[1]"], "invalid_request"),
        ([line(1, []), line(2, {})], "invalid_request"),
        ([line(1, {}, "/score")], "mismatched_url"),
        ([line(1, {}), line(1, {})], "duplicate_custom_id"),
        ([], "empty_file"),
    ],
)
def test_a_bad_file_fails_before_anything_is_computed(client, lines, code):
    batch = ended(client, begun(client, lines))
    assert batch.status == "failed" and batch.output_file_id is None
    assert [error.code for error in batch.errors.data] == [code]


def test_refusals(server, client):
    with pytest.raises(openai.BadRequestError, match="purpose must be batch"):
        client.files.create(file=("a", b"x"), purpose="fine-tune")
    with pytest.raises(openai.BadRequestError, match="endpoint must be a POST route"):
        begun(client, [line(1, {})], "/v1/batches")
    with pytest.raises(openai.NotFoundError):
        client.batches.create(
            input_file_id="file-" + "0" * 32, endpoint="/rerank", completion_window="24h"
        )
    with pytest.raises(openai.BadRequestError):
        client.batches.create(input_file_id="a", endpoint="/rerank", completion_window="1h")
    assert (
        server.client.post(
            "/v1/files", files={"file": b"x" * 2_000_000}, data={"purpose": "batch"}
        ).status_code
        == 413
    )
    assert server.client.post("/v1/files", data={"purpose": "batch"}).status_code == 400


@pytest.mark.parametrize("name", ["..", "%2e%2e%2fx", "file-", "batch_" + "0" * 32, "file-*"])
def test_names_are_names_and_no_paths(server, name):
    for path in (f"/v1/files/{name}", f"/v1/files/{name}/content"):
        assert server.client.get(path).status_code == 404
    assert server.client.delete(f"/v1/files/{name}").status_code in (404, 405)


def test_lists_and_deletes(client):
    names = [uploaded(client, [line(1, {})]).id for _ in range(3)]
    known = [one.id for one in client.files.list(limit=2)]  # page after page
    assert set(names) <= set(known) and len(known) == len(set(known))
    assert client.files.retrieve(names[0]).filename == "in.jsonl"
    assert client.files.delete(names[0]).deleted
    with pytest.raises(openai.NotFoundError):
        client.files.content(names[0])


def test_cancelled_batches_keep_what_was_answered(client):
    lines = [line(i, {"model": "m", "input": f"text {i} " * 8}) for i in range(900)]
    batch = begun(client, lines)
    while batch.status == "validating":
        batch = client.batches.retrieve(batch.id)
    assert client.batches.cancel(batch.id).status in ("cancelling", "cancelled")
    batch = ended(client, batch)
    assert batch.status == "cancelled"
    done = batch.request_counts.completed
    assert done < 900
    if batch.output_file_id:
        assert len(answers_of(client, batch.output_file_id)) == done


def test_a_server_goes_on_where_another_was_stopped(start, folders, tmp_path):
    options = {"batch_folder": str(tmp_path / "batches"), "drain_timeout": 1}
    lines = [line(i, {"model": "m", "input": f"text {i}"}) for i in range(600)]
    first = start([folders(MODEL)], **options)
    client = openai.OpenAI(base_url=first.url + "/v1", api_key="none")
    batch = begun(client, lines)
    output = tmp_path / "batches" / f"{batch.id}.output"
    while not (output.exists() and output.stat().st_size):
        time.sleep(0.005)
    first.stop()
    written = whole_lines(output)
    with output.open("ab") as file:
        file.write(b'{"a line that a kill has cut')
    second = start([folders(MODEL)], **options)
    client = openai.OpenAI(base_url=second.url + "/v1", api_key="none")
    batch = ended(client, client.batches.retrieve(batch.id))
    assert 0 < written < 600 and batch.status == "completed"
    found = answers_of(client, batch.output_file_id)
    assert [one["custom_id"] for one in found] == [f"n{i}" for i in range(600)]


def test_a_batch_that_was_stopped_at_its_end_is_not_answered_again(
    start, folders, tmp_path, monkeypatch
):
    options = {"batch_folder": str(tmp_path / "batches")}
    lines = [line(i, {"model": "m", "input": f"text {i}" if i else 3}) for i in range(20)]
    first = start([folders(MODEL)], **options)
    client = openai.OpenAI(base_url=first.url + "/v1", api_key="none")

    def killed(*args, **kwargs):
        raise asyncio.CancelledError

    monkeypatch.setattr(Batches, "_end", killed)
    batch = begun(client, lines)
    while batch.status != "finalizing":
        batch = client.batches.retrieve(batch.id)
    first.stop()
    monkeypatch.undo()
    second = start([folders(MODEL)], **options)
    client = openai.OpenAI(base_url=second.url + "/v1", api_key="none")
    batch = ended(client, client.batches.retrieve(batch.id))
    assert batch.status == "completed"
    names = [one["custom_id"] for one in answers_of(client, batch.output_file_id)]
    assert names == [f"n{i}" for i in range(1, 20)]
    assert [one["custom_id"] for one in answers_of(client, batch.error_file_id)] == ["n0"]
    assert second.service.models.served[0].model.engine.real_tokens == 0


def test_one_process_has_a_batch(tmp_path):
    store = Store(tmp_path / "batches")
    assert (tmp_path / "batches").stat().st_mode & 0o777 == 0o700
    with store.claim("batch_x") as mine, store.claim("batch_x") as others:
        assert mine and not others
    with store.claim("batch_x") as again:
        assert again


def test_checked_lines_are_counted(tmp_path):
    path = tmp_path / "in.jsonl"
    path.write_text("".join(json.dumps(line(i, {})) + "\n\n" for i in range(3)))
    assert check(path, "/v1/embeddings") == (3, [])


def test_without_a_folder_there_are_no_such_routes(servers):
    url = servers("auth").url
    key = {"authorization": "Bearer sekret"}
    assert httpx.get(url + "/v1/files", headers=key).status_code == 404
    assert httpx.post(url + "/v1/files", files={"file": b"x"}, headers=key).status_code == 404


def test_keys_guard_the_files(start, folders, tmp_path):
    server = start([folders(MODEL)], batch_folder=str(tmp_path / "b"), api_key=["k"])
    assert httpx.get(server.url + "/v1/files").status_code == 401
    assert httpx.post(server.url + "/v1/files", files={"file": b"x"}).status_code == 401
    client = openai.OpenAI(base_url=server.url + "/v1", api_key="k")
    batch = ended(client, begun(client, [line(1, {"model": "m", "input": "a"})]))
    assert batch.status == "completed" and batch.request_counts.completed == 1
