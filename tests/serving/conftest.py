"""Servers on loopback, each started once for all tests: `servers("cls")`."""

import asyncio
import os
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import checkpoints
import httpx
import pytest
import uvicorn
from apart import Apart
from checkpoints import MINILM
from images import page_models, towers
from tasks.bge_m3 import save_bge_m3
from tasks.gliner_model import save as save_gliner

from serving.app import create_app
from serving.config import Options
from serving.protocol import Protocol
from serving.service import Service

TEMPLATE = (
    "{% for m in messages %}{{ m['role'] }}: {{ m['content'] }}{{ '\\n' }}{% endfor %}"
    "{% if add_generation_prompt %}assistant:{% endif %}"
)
SCORE_TEMPLATE = (
    "{{ instruction }} {% for m in messages %}{{ m['role'] }}: {{ m['content'] }} {% endfor %}"
)
# Options of each server, by the name of its model.
KINDS = {
    "minilm": {},
    "cls": {},
    "nli": {},
    "gliner": {},
    "ce": {},
    "decider": {"convert": "decide"},
    "tok": {},
    "values": {},
    "mat": {"hf_overrides": {"matryoshka_dimensions": [8, 24, 64]}},
    "raw": {},
    "splade": {},
    "hybrid": {},
    "colbert": {},
    "marked": {},
    "multi": {},
    "regression": {},
    "templated": {"chat_template": SCORE_TEMPLATE},
    "vit": {},
    "pages": {"data_parallel_size": 1},
    "clip": {"allowed_media_domains": ["127.0.0.1", "allowed.example"]},
    "tokemb": {"pooler_config": {"task": "token_embed"}},
    "chunk": {
        "pooler_config": {
            "enable_chunked_processing": True,
            "max_embed_len": 1000,
            "chunk_special_tokens": False,
        }
    },
    "auth": {
        "served_model_name": ["first", "second"],
        "api_key": ["sekret"],
        "chat_template": TEMPLATE,
        "enable_request_id_headers": True,
    },
}
BUILDERS = {
    "clip": checkpoints.clip,
    "pages": page_models.colpali,
    "vit": lambda folder: towers.save(folder, "vit-classifier"),
    "cls": checkpoints.classifier,
    "nli": checkpoints.inference,
    "gliner": lambda folder: save_gliner(folder, "bert"),
    "ce": checkpoints.cross_encoder,
    "decider": checkpoints.decider,
    "sorter": checkpoints.sorter,
    "tok": checkpoints.tagger,
    "values": lambda folder: checkpoints.tagger(folder, labels=1),
    "mat": checkpoints.embedder,
    "raw": lambda folder: checkpoints.embedder(folder, normalize=False),
    "tokemb": checkpoints.embedder,
    "splade": checkpoints.splade,
    "hybrid": save_bge_m3,
    "colbert": checkpoints.colbert,
    "marked": checkpoints.marked,
    "multi": checkpoints.multi_label,
    "regression": checkpoints.regression,
    "templated": checkpoints.cross_encoder,
}


class Live:
    """A server in a thread of this process; `client` talks to it.

    apart: its devices are behind the sockets and the memory of a server of several processes.
    """

    def __init__(self, options: Options, apart: bool = False):
        self.service = Service(options, Apart(options) if apart else None)
        config = uvicorn.Config(
            create_app(options, self.service),
            port=0,
            http=Protocol.within(options.request_read_timeout),
            log_config=None,
            access_log=False,
        )
        self.server = uvicorn.Server(config)
        self.thread = threading.Thread(target=self._run, daemon=True)
        self.thread.start()
        self._until(lambda: self.server.started)
        port = self.server.servers[0].sockets[0].getsockname()[1]
        self.url = f"http://127.0.0.1:{port}"
        self.client = httpx.Client(base_url=self.url, timeout=60)
        self._until(lambda: self.service.models.state != "starting")
        assert self.service.models.state == "ready", self.service.models.error

    def _run(self):
        asyncio.run(self.server.serve())

    def _until(self, done):
        begun = time.monotonic()
        while not done():
            assert time.monotonic() - begun < 120, "the server does not start"
            time.sleep(0.02)

    def post(self, path, body=None, **options):
        """The response to a JSON body."""
        return self.client.post(path, json=body, **options)

    def stop(self):
        """Drain and end."""
        self.client.close()
        self.server.should_exit = True
        self.thread.join(20)
        assert not self.thread.is_alive()


@pytest.fixture(scope="session")
def start():
    """Start a server of the given options; all are stopped at the end of the session."""
    running = []

    def begin(models, apart=False, **options):
        options = {"served_model_name": ["m"], "dtype": "float32", "warmup": "none"} | options
        running.append(Live(Options(models=[str(path) for path in models], **options), apart))
        return running[-1]

    yield begin
    for server in running:
        server.stop()


@pytest.fixture(scope="session")
def folders(tmp_path_factory):
    """The checkpoint of a name, built once."""
    built = {}

    def folder(name):
        if name not in BUILDERS:
            return MINILM
        if name not in built:
            built[name] = BUILDERS[name](tmp_path_factory.mktemp(name))
        return built[name]

    return folder


@pytest.fixture(scope="session")
def servers(start, folders):
    """The server of a name in `KINDS`, started once."""
    running = {}

    def server(name, apart=False):
        if (name, apart) not in running:
            options = {"served_model_name": [name]} | KINDS[name]
            running[name, apart] = start([folders(name)], apart, **options)
        return running[name, apart]

    return server


class Process:
    """`jaxpool serve` in a process of its own."""

    def __init__(self, model: str, arguments: tuple, log: Path):
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.url, self.log = f"http://127.0.0.1:{self.port}", log
        command = [sys.executable, "-m", "jaxpool.cli", "serve", model, "--host", "127.0.0.1"]
        if "--api-workers" not in arguments:  # whatever machine this is
            command += ["--api-workers", "1"]
        with log.open("wb") as sink:
            self.process = subprocess.Popen(
                [*command, "--port", str(self.port), *arguments], stdout=sink, stderr=sink
            )

    def until_listening(self) -> float:
        """Wait for the socket; seconds of work the process took to get there."""
        for _ in range(6000):
            try:
                socket.create_connection(("127.0.0.1", self.port), 1).close()
                return cpu_seconds(self.process.pid)
            except ConnectionRefusedError:
                assert self.process.poll() is None, self.log.read_text()
                time.sleep(0.01)
        raise AssertionError("the server does not listen")

    def until_ready(self):
        """Wait for /health."""
        self.until_listening()
        # Connections wait while the processes of several start.
        while httpx.get(self.url + "/health", timeout=60).status_code != 200:
            assert self.process.poll() is None, self.log.read_text()
            time.sleep(0.1)


def cpu_seconds(pid: int) -> float:
    """Processor time a process has used."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


@pytest.fixture(scope="module")
def fleet(tmp_path_factory, folders):
    """A server of two workers and two replicas, all of which answer."""
    arguments = "--api-workers 2 --replicas 2 --served-model-name m --warmup none --dtype float32"
    arguments += ' --hf-overrides {"matryoshka_dimensions":[8,24,64]}'
    arguments += " --enable-lora --max-lora-rank 4 --allow-runtime-lora-updating --api-key k"
    arguments += " --max-queued-tokens 1000 --enable-server-load-tracking"
    log = tmp_path_factory.mktemp("fleet") / "log"
    server = Process(str(folders("mat")), tuple(arguments.split()), log)
    yield server
    server.process.kill()
    server.process.wait()


@pytest.fixture
def servers_process(tmp_path, folders):
    """Start `jaxpool serve`; what still runs at the end is killed."""
    running = []

    def begin(*arguments, model=None, wait=True):
        model = str(folders("mat")) if model is None else model
        running.append(Process(model, arguments, tmp_path / f"{len(running)}.log"))
        if wait:
            running[-1].until_ready()
        return running[-1]

    yield begin
    for server in running:
        server.process.kill()
        server.process.wait()
