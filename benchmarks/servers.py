"""The servers that `serving.py` compares: jaxpool's, and vLLM's out of a folder of its own."""

import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

START = 240.0  # seconds a server has to start


def jaxpool(model: str, dtype: str) -> list[str]:
    """The command of our own server."""
    return [sys.executable, "-m", "jaxpool.cli", "serve", model, "--dtype", dtype]


def vllm(folder: Path, model: str, dtype: str) -> list[str]:
    """The command of vLLM's, installed in `folder/venv`, for the same checkpoint."""
    from converters.files.locate import resolve

    command = [str(folder / "venv/bin/vllm"), "serve", str(resolve(model)), "--runner", "pooling"]
    return [*command, "--dtype", dtype]


class Running(NamedTuple):
    """A server's port, and its process, which leads a group of its own."""

    port: int
    process: subprocess.Popen


@contextmanager
def running(command: list[str]) -> Iterator[Running]:
    """Run a server on a free port of 127.0.0.1 until the block ends."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    process = subprocess.Popen(
        [*command, "--host", "127.0.0.1", "--port", str(port)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env=os.environ | {"VLLM_CPU_KVCACHE_SPACE": "1", "HF_HUB_OFFLINE": "1"},
        start_new_session=True,
    )
    try:
        until(lambda: healthy(port, process), "the server is not ready")
        yield Running(port, process)
    finally:
        os.killpg(process.pid, signal.SIGTERM)
        process.wait(60)


@contextmanager
def paused(processes: Iterable[subprocess.Popen]) -> Iterator[None]:
    """Stop servers until the block ends: one that waits may keep a core busy."""
    groups = [process.pid for process in processes]
    for group in groups:
        os.killpg(group, signal.SIGSTOP)
    try:
        yield
    finally:
        for group in groups:
            os.killpg(group, signal.SIGCONT)


def until(condition, failure: str) -> None:
    """Wait for a condition."""
    end = time.monotonic() + START
    while not condition():
        if time.monotonic() > end:
            raise SystemExit(failure)
        time.sleep(0.5)


def healthy(port: int, process: subprocess.Popen) -> bool:
    """Whether /health says 200."""
    if process.poll() is not None:
        raise SystemExit(f"{process.args[:3]} has ended with {process.returncode}")
    try:
        return urllib.request.urlopen(f"http://127.0.0.1:{port}/health").status == 200
    except urllib.error.URLError:
        return False


def metric(port: int, name: str) -> float:
    """The sum of a metric's samples."""
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics") as page:
        lines = page.read().decode().splitlines()
    return sum(float(line.rsplit(" ", 1)[1]) for line in lines if line.startswith(name))


def settle(port: int) -> None:
    """Wait until our server has compiled all that it compiles ahead."""
    seen = [-1.0, -2.0, -3.0]

    def still() -> bool:
        time.sleep(1.5)
        seen.append(metric(port, "jaxpool:compilations"))
        return len(set(seen[-4:])) == 1

    until(still, "the server does not stop compiling")
