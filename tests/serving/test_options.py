"""Every option of `jaxpool serve`: as a flag, a variable and a line of a file, and what it does."""

import ssl
import time

import httpx
import numpy as np
import pytest
import trustme

from serving.config import LoraModule, Options, parse

TEXT = "The capital of France is Paris."
FLAGS = {
    "host": ("127.0.0.2", "127.0.0.2"),
    "port": ("81", 81),
    "uds": ("/run/x", "/run/x"),
    "root-path": ("/api", "/api"),
    "api-key": ("k", ["k"]),
    "served-model-name": ("a", ["a"]),
    "max-model-len": ("1K", 1024),
    "dtype": ("bfloat16", "bfloat16"),
    "lora-modules": ("a=b", [LoraModule(name="a", path="b")]),
    "max-loras": ("2", 2),
    "max-lora-rank": ("8", 8),
    "revision": ("main", "main"),
    "hf-overrides": ('{"a": 1}', {"a": 1}),
    "pooler-config": ('{"task": "embed"}', {"task": "embed"}),
    "runner": ("pooling", "pooling"),
    "quantization": ("int8", "int8"),
    "convert": ("classify", "classify"),
    "chat-template": ("{{ a }}", "{{ a }}"),
    "default-prompt-name": ("query", "query"),
    "tensor-parallel-size": ("2", 2),
    "data-parallel-size": ("4", 4),
    "api-workers": ("2", 2),
    "replicas": ("3", 3),
    "distributed": ('{"process_id": 1}', {"process_id": 1}),
    "max-num-batched-tokens": ("8k", 8000),
    "max-queued-tokens": ("100", 100),
    "batch-folder": ("uploads", "uploads"),
    "max-file-bytes": ("2000", 2000),
    "max-body-bytes": ("1000", 1000),
    "request-read-timeout": ("2.5", 2.5),
    "drain-timeout": ("3", 3.0),
    "health-timeout": ("1", 1.0),
    "allowed-media-domains": ('["a.example"]', ["a.example"]),
    "allowed-local-media-path": ("/pictures", "/pictures"),
    "limit-mm-per-prompt": ('{"image": 1}', {"image": 1}),
    "mm-processor-kwargs": ('{"resample": 2}', {"resample": 2}),
    "mm-processor-cache-gb": ("0.5", 0.5),
    "allowed-origins": ('["https://a"]', ["https://a"]),
    "allowed-methods": ('["GET"]', ["GET"]),
    "allowed-headers": ('["X"]', ["X"]),
    "ssl-keyfile": ("k.pem", "k.pem"),
    "ssl-certfile": ("c.pem", "c.pem"),
    "ssl-ca-certs": ("a.pem", "a.pem"),
    "ssl-cert-reqs": ("2", 2),
    "ssl-ciphers": ("TLSv1.2", "TLSv1.2"),
    "log-format": ("json", "json"),
    "uvicorn-log-level": ("debug", "debug"),
    "otlp-traces-endpoint": ("http://a", "http://a"),
    "warmup": ("some", "some"),
    "compiled": ("programs", "programs"),
}
SWITCHES = (
    "add-eos-token",
    "enable-lora",
    "allow-runtime-lora-updating",
    "trust-remote-code",
    "batch-invariant",
    "trust-request-chat-template",
    "trust-request-mm-kwargs",
    "allow-credentials",
    "enable-request-id-headers",
    "enable-server-load-tracking",
    "disable-fastapi-docs",
    "enable-log-requests",
    "ui",
)


def field(flag):
    return flag.replace("-", "_")


def test_nothing_is_left_out():
    assert {field(flag) for flag in (*FLAGS, *SWITCHES, "models", "config")} == set(
        Options.model_fields
    )


def test_every_flag_and_its_underscored_spelling():
    for spelling in (lambda flag: f"--{flag}", lambda flag: f"--{field(flag)}"):
        arguments = [part for flag, (text, _) in FLAGS.items() for part in (spelling(flag), text)]
        options = parse(["m", *arguments, *map(spelling, SWITCHES)])
        assert options.models == ["m"]
        for flag, (_, value) in FLAGS.items():
            assert getattr(options, field(flag)) == value, flag
        assert all(getattr(options, field(flag)) is True for flag in SWITCHES)


def test_every_variable(monkeypatch):
    for flag, (text, _) in FLAGS.items():
        monkeypatch.setenv(f"JAXPOOL_{field(flag).upper()}", text)
    for flag in SWITCHES:
        monkeypatch.setenv(f"JAXPOOL_{field(flag).upper()}", "1")
    options = parse(["m"])
    for flag, (_, value) in FLAGS.items():
        assert getattr(options, field(flag)) == value, flag
    assert all(getattr(options, field(flag)) is True for flag in SWITCHES)


def test_a_file_yields_to_variables_and_these_to_flags(monkeypatch, tmp_path):
    file = tmp_path / "options.yaml"
    file.write_text("model: m\nport: 1\nhost: a\nmax-queued-tokens: 7\napi-key: [x, y]\n")
    monkeypatch.setenv("JAXPOOL_HOST", "b")
    monkeypatch.setenv("JAXPOOL_PORT", "2")
    options = parse(["--config", str(file), "--port", "3"])
    assert (options.port, options.host, options.max_queued_tokens) == (3, "b", 7)
    assert (options.models, options.api_key) == (["m"], ["x", "y"])


def test_spellings_of_vllm():
    options = parse(
        [
            "a",
            "-tp",
            "2",
            "-dp",
            "4",
            "--served-model-name",
            "x",
            "y",
            "--api-key",
            "k",
            "--api-key",
        ]
        + ["l", "--pooler-config.task", "embed", "--max-model-len=auto"]
    )
    assert (options.tensor_parallel_size, options.data_parallel_size) == (2, 4)
    assert options.served_model_name == ["x", "y"] and options.api_key == ["k", "l"]
    assert options.pooler_config == {"task": "embed"} and options.max_model_len is None
    given = '{"name": "c", "path": "d", "base_model_name": "x"}'
    options = parse(["a", "--enable-lora", "--lora-modules", "a=b=", given, "--max-loras", "2"])
    assert options.lora_modules == [
        LoraModule(name="a", path="b="),
        LoraModule(name="c", path="d", base_model_name="x"),
    ]


@pytest.mark.parametrize(
    "arguments, text",
    [
        ([], "name at least one model"),
        (["m", "--port", "many"], "port"),
        (["m", "--max-queued-tokens", "0"], "max_queued_tokens"),
        (["m", "--convert", "reward"], "convert"),
        (["m", "--enable-lora", "--lora-modules", "a"], "path"),
        (["m", "--api-workers", "0"], "api_workers"),
        (["m", "--replicas", "0"], "replicas"),
        (["m", "--replicas", "some"], "replicas"),
        (["m", "--lora-modules", "a=b"], "adapters need --enable-lora"),
        (["m", "--enable-lora", "--allow-runtime-lora-updating"], "needs an --api-key"),
    ],
)
def test_bad_options_are_named(arguments, text):
    with pytest.raises(SystemExit, match=text):
        parse(arguments)


def answers(client, path="/health"):
    for _ in range(600):
        try:
            if client.get(path).status_code == 200:
                return True
        except httpx.TransportError:
            pass
        time.sleep(0.1)
    return False


def test_a_unix_socket(servers_process, tmp_path):
    path = tmp_path / "socket"
    servers_process("--uds", str(path), "--warmup", "none", wait=False)
    while not path.exists():  # httpx leaves a socket open that finds nobody
        time.sleep(0.1)
    transport = httpx.HTTPTransport(uds=str(path))
    with httpx.Client(transport=transport, base_url="http://x") as client:
        assert answers(client)
        assert client.post("/v1/embeddings", json={"input": TEXT}).status_code == 200


def test_tls_with_client_certificates(servers_process, tmp_path):
    authority = trustme.CA()
    mine, theirs = authority.issue_cert("127.0.0.1"), authority.issue_cert("client@x")
    files = {name: str(tmp_path / f"{name}.pem") for name in ("key", "cert", "ca")}
    mine.private_key_pem.write_to_path(files["key"])
    mine.cert_chain_pems[0].write_to_path(files["cert"])
    authority.cert_pem.write_to_path(files["ca"])
    server = servers_process(
        *("--ssl-keyfile", files["key"], "--ssl-certfile", files["cert"], "--warmup", "none"),
        *("--ssl-ca-certs", files["ca"], "--ssl-cert-reqs", str(int(ssl.CERT_REQUIRED))),
        wait=False,
    )
    context = ssl.create_default_context(cafile=files["ca"])
    url = server.url.replace("http:", "https:")
    with httpx.Client(verify=context) as anonymous, pytest.raises(httpx.TransportError):
        server.until_listening()
        anonymous.get(url + "/health")
    theirs.configure_cert(context)
    with httpx.Client(verify=context) as client:
        assert answers(client, url + "/health")


def test_a_root_path_behind_a_proxy(start, folders):
    server = start([folders("mat")], root_path="/api", api_key=["k"], disable_fastapi_docs=True)
    for prefix in ("", "/api"):
        assert server.client.get(prefix + "/health").status_code == 200
        assert server.post(prefix + "/v1/embeddings", {"input": "a"}).status_code == 401
        headers = {"Authorization": "Bearer k"}
        answer = server.post(prefix + "/v1/embeddings", {"input": "a"}, headers=headers)
        assert answer.status_code == 200
        assert server.client.get(prefix + "/docs", headers=headers).status_code == 404


def test_what_the_model_is_loaded_with(start, folders):
    """Conversion, lengths, devices, batches; what only vLLM needs is accepted."""
    server = start(
        [folders("cls")],
        convert="embed",
        runner="pooling",
        trust_remote_code=True,
        max_model_len=48,
        max_num_batched_tokens=64,
        tensor_parallel_size=2,
        data_parallel_size=2,
    )
    model = server.service.models.served[0].model
    assert dict(model.executor.mesh.shape) == {"data": 2, "model": 2}
    assert (model.max_length, model.engine.budget) == (48, 64)
    vector = server.post("/v1/embeddings", {"input": "a"}).json()["data"][0]["embedding"]
    assert len(vector) == 64 and server.post("/classify", {"input": "a"}).status_code == 404


def test_templates_from_a_file_and_from_requests(start, folders, tmp_path):
    file = tmp_path / "chat.jinja"
    file.write_text("{% for m in messages %}{{ m.content }}{% endfor %} dog")
    server = start([folders("mat")], chat_template=str(file), trust_request_chat_template=True)
    messages = [{"role": "user", "content": "cat"}]
    count = server.post("/tokenize", {"messages": messages}).json()["count"]
    own = {"messages": messages, "chat_template": "{{ messages[0].content }} dog dog"}
    assert (count, server.post("/tokenize", own).json()["count"]) == (2, 3)
    # Plain texts are no conversation: they stay as they are, also in Cohere's shape.
    asked = {"texts": ["cat"], "embedding_types": ["float"]}
    cohere = server.post("/v2/embed", asked).json()["embeddings"]["float"][0]
    plain = server.post("/v1/embeddings", {"input": "cat"}).json()["data"][0]["embedding"]
    np.testing.assert_allclose(cohere, plain, atol=1e-6)


def test_requests_being_answered_are_counted_on_demand(start, folders):
    server = start([folders("mat")], enable_server_load_tracking=True, max_body_bytes=100)
    assert server.client.get("/load").json() == {"server_load": 1}  # itself
    assert server.post("/v1/embeddings", {"input": "a" * 200}).status_code == 413
