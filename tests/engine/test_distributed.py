"""Two processes with two devices each give the vectors of one process."""

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest

from converters.files.orbax import save
from jaxpool import LLM
from jaxpool.engine import executor as executors
from jaxpool.engine.distributed import start
from tests.conftest import MINILM

TEXTS = ["a cat", "Two processes embed the same texts.", "it " * 90, "?", "bread and butter"]
WORKER = Path(__file__).with_name("distributed_worker.py")


ROOM = 2**40  # bytes


def run(
    folder: Path, options: dict, model: str = MINILM, free: tuple[int, int] = (ROOM, ROOM)
) -> list[tuple[int, str]]:
    """Two workers, two virtual devices each, that write `0.npz` and `1.npz`: codes and errors.

    `free`: the memory of a device of each, in bytes.
    """
    environment = os.environ | {"XLA_FLAGS": "--xla_force_host_platform_device_count=2"}
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{probe.getsockname()[1]}"
    workers = []
    for index in range(2):
        cluster = {"coordinator_address": address, "num_processes": 2, "process_id": index}
        arguments = [model, str(folder / f"{index}.npz"), json.dumps(TEXTS)]
        arguments += [json.dumps(options | {"distributed": cluster}), str(free[index])]
        with (folder / f"{index}.err").open("w") as errors:
            command = [sys.executable, "-m", f"tests.engine.{WORKER.stem}", *arguments]
            where = {"cwd": WORKER.parents[2], "env": environment}
            workers.append(subprocess.Popen(command, stdout=errors, stderr=errors, **where))
    try:
        codes = [worker.wait(300) for worker in workers]
    finally:
        for worker in workers:
            worker.kill()
    return [(code, (folder / f"{i}.err").read_text()) for i, code in enumerate(codes)]


@pytest.mark.slow
@pytest.mark.parametrize(
    "options, part",
    [({}, 1), ({"tensor_parallel_size": 4}, 1 / 4), ({"tensor_parallel_size": 2}, 1 / 2)],
    ids=["data", "model", "both"],
)
def test_two_processes_give_the_vectors_of_one(tmp_path, minilm, options, part):
    check(run(tmp_path, options), tmp_path, minilm, part)


@pytest.mark.slow
def test_each_process_restores_its_part_of_an_orbax_folder(tmp_path, minilm):
    (tmp_path / "orbax").mkdir()
    save(minilm.model.checkpoint, tmp_path / "orbax")
    results = run(tmp_path, {"tensor_parallel_size": 4}, str(tmp_path / "orbax"))
    check(results, tmp_path, minilm, 1 / 4)


@pytest.mark.slow
def test_the_process_of_least_memory_sets_the_budget(tmp_path, minilm):
    options = {"max_model_len": 128, "max_num_batched_tokens": 2048, "warmup": ["embed"]}
    here = LLM(MINILM, data_parallel_size=4, max_model_len=128)
    steps = (here.model.task("embed").steps,)
    need = executors.memory(here.model.executor.compiled((steps, 8, 128)))
    fits = need["temp"] + need["output"]
    check(run(tmp_path, options, free=(ROOM, fits)), tmp_path, minilm, 1)
    assert [np.load(tmp_path / f"{i}.npz")["budget"] for i in range(2)] == [1024, 1024]
    reasons = ("does not fit in another process's memory", "lower max_num_batched_tokens")
    for (code, errors), reason in zip(run(tmp_path, options, free=(ROOM, 1)), reasons, strict=True):
        assert code != 0
        assert "MemoryError: A batch of 4 x 128 tokens" in errors and reason in errors


def check(results: list[tuple[int, str]], folder: Path, minilm, part: float) -> None:
    """Both workers ended well, held `part` of a kernel a device, and have minilm's outputs."""
    for code, errors in results:
        assert code == 0, errors
    vectors = [r.outputs.embedding for r in minilm.embed(TEXTS, use_tqdm=False)]
    tokens = minilm.encode(TEXTS[:3], pooling_task="token_embed", use_tqdm=False)
    for i in range(2):
        got = np.load(folder / f"{i}.npz")
        assert (got["processes"], got["devices"], got["part"]) == (2, 4, part)
        np.testing.assert_allclose(got["vectors"], vectors, atol=1e-5)
        wanted = np.concatenate([np.asarray(r.outputs.data) for r in tokens])
        np.testing.assert_allclose(got["tokens"], wanted, atol=1e-5)


@pytest.mark.slow
def test_a_mesh_that_leaves_out_a_process_is_refused(tmp_path):
    for code, errors in run(tmp_path, {"data_parallel_size": 2}):
        assert code != 0
        assert "2 processes run on all their 4 devices, found data_parallel_size=2" in errors


def test_no_cluster_says_what_to_pass(monkeypatch):
    asked = []

    def initialize(**options):
        asked.append(options)
        if not options:
            raise ValueError("coordinator_address should be defined.")

    monkeypatch.setattr(jax.distributed, "initialize", initialize)
    start(False)
    start({"process_id": 0})
    with pytest.raises(ValueError, match='coordinator_address should.*pass distributed={"coord'):
        start(True)
    assert asked == [{"process_id": 0}, {}]
