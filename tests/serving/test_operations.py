"""The server as a process: start, signals, options, logs, metrics."""

import asyncio
import json
import logging
import re
import signal
import threading
import time
from pathlib import Path

import httpx
import pytest

from jaxpool.engine.executor import Executor
from serving.app import create_app
from serving.config import Options
from serving.server import configure_logs

TEXT = "The capital of France is Paris."
VECTORS = Path(__file__).parents[2] / "docs" / "vectors.md"


def test_listens_at_once_and_says_that_it_starts(servers_process):
    """Two seconds of its own work: the wall clock of a busy machine proves nothing."""
    server = servers_process(wait=False)
    spent = server.until_listening()
    answer = httpx.get(server.url + "/health")
    assert spent <= 2
    assert (answer.status_code, answer.json()["message"]) == (503, "starting")
    assert httpx.post(server.url + "/v1/embeddings", json={"input": "a"}).status_code == 503
    server.until_ready()
    assert httpx.post(server.url + "/v1/embeddings", json={"input": "a"}).status_code == 200


def test_sigterm_under_load_answers_what_was_admitted(servers_process):
    server = servers_process("--drain-timeout", "20", "--enable-log-requests")
    outcomes, stop = [], threading.Event()

    def client():
        with httpx.Client(base_url=server.url, timeout=60) as session:
            while not stop.is_set():
                try:
                    outcomes.append(session.post("/v1/embeddings", json={"input": TEXT}))
                except httpx.ConnectError:
                    return  # nothing listens any more
                except (httpx.RemoteProtocolError, httpx.ReadError) as error:
                    outcomes.append(error)

    threads = [threading.Thread(target=client) for _ in range(8)]
    for thread in threads:
        thread.start()
    while len(outcomes) < 30:
        time.sleep(0.05)
    server.process.send_signal(signal.SIGTERM)
    assert server.process.wait(25) == 0
    stop.set()
    for thread in threads:
        thread.join()
    lost = [one for one in outcomes if not isinstance(one, httpx.Response)]
    answered = [one.status_code for one in outcomes if one not in lost]
    # An idle connection may be closed under a request that was never read; what was, is answered.
    assert len(lost) <= 8 and set(answered) <= {200, 503}
    assert server.log.read_text().count("POST /v1/embeddings") == len(answered)


def test_a_model_that_cannot_be_loaded_ends_the_process(servers_process, tmp_path):
    server = servers_process(model=str(tmp_path), wait=False)
    assert server.process.wait(60) == 1


@pytest.mark.parametrize("level, shown", [("info", False), ("debug", True)])
def test_what_libraries_tell_is_no_news(level, shown, monkeypatch):
    monkeypatch.setattr(logging, "basicConfig", lambda **_: None)
    loggers = [logging.getLogger(name) for name in ("jax", "fsspec")]
    for logger in loggers:
        monkeypatch.setattr(logger, "level", logger.level)
    configure_logs(Options(models=["m"], uvicorn_log_level=level))
    assert all((logger.level == logging.NOTSET) == shown for logger in loggers)


def test_no_key_in_logs_and_no_path_in_errors(servers_process, folders):
    """Named by its folder, the model's name is a path."""
    folder = folders("mat")
    server = servers_process(
        *("--api-key", "very-secret", "--log-format", "json", "--enable-log-requests"),
        model=str(folder),
    )
    headers = {"Authorization": "Bearer very-secret", "X-Request-Id": "r-1"}
    body = {"input": TEXT, "dimensions": 3}
    response = httpx.post(server.url + "/v1/embeddings", json=body, headers=headers)
    assert response.status_code == 400
    assert str(folder) not in response.text and "<path>" in response.text
    wrong = {"Authorization": "Bearer guessed-secret"}
    assert httpx.post(server.url + "/pooling", json=body, headers=wrong).status_code == 401
    server.process.send_signal(signal.SIGTERM)
    server.process.wait(20)
    log = server.log.read_text()
    assert "secret" not in log
    lines = [json.loads(line) for line in log.splitlines() if line.startswith("{")]
    (line,) = [one for one in lines if one["request_id"] == "r-1"]
    assert "POST /v1/embeddings 400" in line["message"]


def test_utility_routes(servers, minilm):
    client = servers("minilm").client
    for method, path in (("GET", "/health"), ("GET", "/ping"), ("POST", "/ping")):
        response = client.request(method, path)
        assert (response.status_code, response.content) == (200, b"")
    assert isinstance(client.get("/version").json()["version"], str)
    assert client.get("/load").json() == {"server_load": 0}
    assert client.get("/openapi.json").status_code == 200
    (card,) = client.get("/v1/models").json()["data"]
    assert (card["id"], card["owned_by"], card["max_model_len"]) == ("minilm", "vllm", 256)
    assert card["fingerprint"] == minilm.model.fingerprint
    assert client.get("/v1/embeddings").json() == {"detail": "Method Not Allowed"}
    assert (
        "access-control-allow-origin" not in client.get("/health", headers={"Origin": "x"}).headers
    )


def test_the_documented_place_of_the_fingerprint(servers, minilm):
    (path, field), *_ = re.findall(
        r'^curl -s localhost:8000(/v1/models) +# "(\w+)" of each card', VECTORS.read_text(), re.M
    )
    (card,) = servers("minilm").client.get(path).json()["data"]
    assert card[field] == minilm.model.fingerprint


def test_tokens(servers, minilm):
    server, ids = servers("minilm"), minilm.get_tokenizer()(TEXT)["input_ids"]
    answer = server.post("/tokenize", {"prompt": TEXT, "return_token_strs": True}).json()
    assert answer["tokens"] == ids and answer["count"] == len(ids) == len(answer["token_strs"])
    answer = server.post("/detokenize", {"tokens": ids}).json()
    assert answer["prompt"] == "[CLS] the capital of france is paris. [SEP]"
    error = server.post("/tokenize", {"model": "x", "prompt": TEXT})
    assert error.status_code == 404 and "Valid aliases: minilm." in error.json()["message"]


def test_two_names_and_the_key(servers):
    server = servers("auth")
    key = {"Authorization": "bearer sekret"}
    cards = server.client.get("/v1/models", headers=key).json()["data"]
    assert [card["id"] for card in cards] == ["first", "second"]
    body = {"input": "a", "model": "second"}
    assert server.post("/v1/embeddings", body, headers=key).json()["model"] == "first"
    for path in ("/v1/embeddings", "/pooling", "/score", "/tokenize", "/nowhere"):
        refused = server.post(path, body)
        assert refused.status_code == 401 and refused.json() == {"error": "Unauthorized"}
    for path in ("/health", "/ping", "/metrics"):
        assert server.client.get(path).status_code == 200
    echo = server.post("/v1/embeddings", body, headers=key | {"X-Request-Id": "abc"})
    assert echo.headers["x-request-id"] == "abc"


def test_invocations(servers):
    server = servers("minilm")
    for path, body in (
        ("/v1/embeddings", {"input": TEXT, "request_id": "a"}),
        ("/rerank", {"query": TEXT, "documents": ["a", "b"], "request_id": "a"}),
    ):
        native, ours = (server.post(p, body).json() for p in (path, "/invocations"))
        native.pop("created", None), ours.pop("created", None)
        assert native == ours
    for name, path, body in (  # of Text Embeddings Inference
        ("minilm", "/embed", {"inputs": ["a", "b"], "normalize": False}),
        ("cls", "/predict", {"inputs": "a cat"}),
        ("ce", "/rerank", {"query": "a", "texts": ["b", "c"], "raw_scores": True}),
    ):
        native, ours = (servers(name).post(p, body).json() for p in (path, "/invocations"))
        assert native == ours and isinstance(native, list)
    nonsense = server.post("/invocations", {"nonsense": 1})
    assert nonsense.status_code == 400
    assert "Cannot find suitable handler" in nonsense.json()["message"]


def test_metrics(servers):
    server = servers("minilm")
    done = 'vllm:request_success_total{engine="0",finished_reason="stop",model_name="minilm"}'
    server.post("/v1/embeddings", {"input": [TEXT] * 3, "truncate_prompt_tokens": 4})
    server.post("/v1/embeddings", {"input": [TEXT] * 3})
    server.post("/nowhere", {})
    text = server.client.get("/metrics").text
    values = dict(line.rsplit(" ", 1) for line in text.splitlines() if line[:1] != "#")
    label = '{engine="0",model_name="minilm"}'
    assert float(values["vllm:num_requests_running" + label]) == 0
    assert float(values["vllm:num_requests_waiting" + label]) == 0
    assert float(values["vllm:prompt_tokens_total" + label]) >= 27
    assert float(values["jaxpool:queued_tokens" + label]) == 0
    assert float(values["jaxpool:tokens_per_second" + label]) > 0
    assert float(values['jaxpool:truncated_texts_total{model_name="minilm"}']) >= 3
    assert float(values[done]) >= 1
    for name in ("request_prompt_tokens", "e2e_request_latency_seconds", "iteration_tokens_total"):
        assert float(values[f"vllm:{name}_count{label}"]) >= 1
    for name in ("request_queue_time_seconds", "request_inference_time_seconds"):
        assert float(values[f"vllm:{name}_count{label}"]) >= 1
    for name in ("tokenize_seconds", "batch_requests"):
        assert float(values[f'jaxpool:{name}_count{{model_name="minilm"}}']) >= 1
    timed = 'http_request_duration_seconds_count{handler="/v1/embeddings",method="POST"}'
    assert float(values[timed]) >= 1 and "process_resident_memory_bytes" in values
    assert float(values["jaxpool:compilations" + label]) >= 1
    assert float(values['jaxpool:batch_real_share_count{model_name="minilm"}']) >= 1
    handled = 'http_requests_total{handler="/v1/embeddings",method="POST",status="2xx"}'
    assert float(values[handled]) >= 1
    assert float(values['http_requests_total{handler="none",method="POST",status="4xx"}']) >= 1
    assert any(name.startswith("jaxpool:device_memory_bytes") for name in values)
    assert "nowhere" not in text


def test_cors_where_it_is_allowed(start, folders):
    server = start([folders("mat")], allowed_origins=["https://a.example"])
    answer = server.client.get("/health", headers={"Origin": "https://a.example"})
    assert answer.headers["access-control-allow-origin"] == "https://a.example"


def test_several_models_in_one_process(start, folders, monkeypatch):
    made, init = [], Executor.__init__

    def spy(executor, *options):
        made.append(executor)
        init(executor, *options)

    monkeypatch.setattr(Executor, "__init__", spy)
    server = start([folders("mat"), folders("cls")], served_model_name=["mat", "cls"])
    assert server.client.get("/health").status_code == 200
    assert server.post("/v1/embeddings", {"input": "a", "model": "mat"}).status_code == 200
    assert server.post("/classify", {"input": "a", "model": "cls"}).status_code == 200
    assert server.post("/classify", {"input": "a"}).json()["model"] == "cls"
    assert server.post("/classify", {"input": "a", "model": "mat"}).status_code == 404
    assert made == [served.model.executor for served in server.service.models.served]


def test_deadlines(servers):
    body = {"input": "a"}
    server = servers("minilm")
    fine = server.post("/v1/embeddings", body, headers={"x-request-timeout": "30"})
    assert fine.status_code == 200
    for bad in ("soon", "-1", "nan"):
        refused = server.post("/v1/embeddings", body, headers={"x-request-timeout": bad})
        assert refused.status_code == 400


def test_a_span_for_each_request(monkeypatch, start, folders):
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import SimpleSpanProcessor
    from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

    spans, provider = InMemorySpanExporter(), TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(spans))
    monkeypatch.setattr("serving.app.exporter", lambda endpoint: provider.get_tracer(endpoint))
    server = start([folders("mat")], otlp_traces_endpoint="http://127.0.0.1:4318/v1/traces")
    parent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    server.post("/v1/embeddings", {"input": TEXT}, headers={"traceparent": parent})
    for _ in range(500):  # a span ends just after its answer
        if found := [one for one in spans.get_finished_spans() if "embeddings" in one.name]:
            break
        time.sleep(0.01)
    (span,) = found
    assert span.name == "POST /v1/embeddings" and span.attributes["jaxpool.tokens"] == 9
    assert format(span.context.trace_id, "032x") in parent


def test_a_redirect_keeps_to_the_scheme_that_a_proxy_names():
    transport = httpx.ASGITransport(create_app(Options(models=["m"])))

    async def ask() -> httpx.Response:
        async with httpx.AsyncClient(transport=transport, base_url="http://a") as client:
            given = {"json": {}, "headers": {"x-forwarded-proto": "https"}}
            return await client.post("/v1/embeddings/", **given)

    answer = asyncio.run(ask())
    assert (answer.status_code, answer.headers["location"]) == (307, "https://a/v1/embeddings")
