"""One server of two processes, with two virtual devices each."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import httpx
import numpy as np
import pytest

from jaxpool import LLM
from serving.config import parse
from tests.conftest import MINILM

ROOT = Path(__file__).parents[2]
TEXTS = ["a cat", "Two processes embed the same texts.", "it " * 60, "?", "bread and butter"]
LIMITS = ["--max-model-len", "64", "--max-num-batched-tokens", "256"]  # few shapes


class Server(NamedTuple):
    """Its processes, the leader first, what each has written, and a client of it."""

    processes: list[subprocess.Popen]
    logs: list[Path]
    client: httpx.Client

    def post(self, path: str, body: dict) -> dict:
        answer = self.client.post(path, json=body)
        assert answer.status_code == 200, answer.text
        return answer.json()

    def wait(self, condition, seconds: float):
        end = time.monotonic() + seconds
        while not condition():
            assert time.monotonic() < end, [log.read_text()[-2000:] for log in self.logs]
            time.sleep(0.1)

    def health(self) -> int:
        try:
            return self.client.get("/health").status_code
        except httpx.ConnectError:
            return 0


def free() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@contextmanager
def serve(folder: Path, model: str, *options: str):
    """Both processes, healthy; killed at the end if they still run."""
    environment = os.environ | {"XLA_FLAGS": "--xla_force_host_platform_device_count=2"}
    address, port = f"127.0.0.1:{free()}", free()
    logs = [folder / f"{i}.log" for i in range(2)]
    processes = []
    for i, log in enumerate(logs):
        cluster = {"coordinator_address": address, "num_processes": 2, "process_id": i}
        command = [sys.executable, "-m", "serving", model, "--distributed", json.dumps(cluster)]
        command += ["--host", "127.0.0.1", "--port", str(port), *LIMITS, *options]
        with log.open("w") as file:
            streams = {"stdout": file, "stderr": file}
            processes.append(subprocess.Popen(command, cwd=ROOT, env=environment, **streams))
    try:
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=60) as client:
            server = Server(processes, logs, client)
            server.wait(lambda: server.health() == 200, 120)
            yield server
    finally:
        for process in processes:
            process.kill()
            process.wait()


@pytest.mark.slow
@pytest.mark.parametrize("options", [[], ["-tp", "2"]], ids=["data", "both"])
def test_two_processes_answer_as_one(tmp_path, options):
    alone = LLM(MINILM, max_model_len=64)
    wanted = [r.outputs.embedding for r in alone.embed(TEXTS, use_tqdm=False)]
    asked = {"pooling_task": "token_embed", "use_tqdm": False}
    tokens = [r.outputs.data for r in alone.encode(TEXTS, **asked)]
    with serve(tmp_path, MINILM, *options) as server:
        found = server.post("/v1/embeddings", {"input": TEXTS})["data"]
        np.testing.assert_allclose([one["embedding"] for one in found], wanted, atol=1e-5)
        both = {"input": TEXTS, "task": "token_embed&embed"}
        for one, vector, matrix in zip(
            server.post("/pooling", both)["data"], wanted, tokens, strict=True
        ):
            np.testing.assert_allclose(one["data"]["embed"], vector, atol=1e-5)
            np.testing.assert_allclose(one["data"]["token_embed"], matrix, atol=1e-5)
        late = {"input": TEXTS[1], "task": "token_embed"}
        late |= {"late_chunking_params": {"chunk_size": 100}}
        (chunks,) = server.post("/pooling", late)["data"]
        np.testing.assert_allclose(chunks["data"], [wanted[1]], atol=1e-5)
        for process in server.processes:  # as whatever runs both would end them
            process.send_signal(signal.SIGTERM)
        assert [process.wait(60) for process in server.processes] == [0, 0]


@pytest.mark.slow
def test_two_processes_score_late_interaction(tmp_path, folders):
    model, query, documents = str(folders("colbert")), TEXTS[0], TEXTS[1:]
    scores = LLM(model, max_model_len=64).score(query, documents, use_tqdm=False)
    with serve(tmp_path, model) as server:
        found = server.post("/score", {"text_1": query, "text_2": documents})["data"]
        wanted = [one.outputs.score for one in scores]
        np.testing.assert_allclose([one["score"] for one in found], wanted, atol=1e-4)


@pytest.mark.slow
def test_health_fails_when_a_follower_has_died(tmp_path):
    with serve(tmp_path, MINILM, "--warmup", "none") as server:
        server.processes[1].kill()
        begun = time.monotonic()
        server.wait(lambda: server.health() == 503, 5)
        assert time.monotonic() - begun < 5


def test_the_option_is_auto_or_json():
    assert parse([MINILM]).distributed is None
    assert parse([MINILM, "--distributed", "auto"]).distributed is True
    assert parse([MINILM, "--distributed", '{"process_id": 1}']).distributed == {"process_id": 1}
