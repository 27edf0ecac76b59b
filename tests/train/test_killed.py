"""SIGKILL at any moment, and again: the end is that of a run nobody disturbed, bit for bit."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

WORKER = Path(__file__).with_name("killed_worker.py")
STEPS = 200


def start(output: Path, model: Path) -> subprocess.Popen:
    command = [sys.executable, WORKER, output, model, str(STEPS)]
    quiet = subprocess.DEVNULL
    return subprocess.Popen(command, stdout=quiet, stderr=quiet, start_new_session=True)


@pytest.mark.slow
@pytest.mark.timeout(3000)
def test_twenty_kills(bert, tmp_path):
    assert start(tmp_path / "calm", bert).wait() == 0
    random, kills, output = np.random.default_rng(0), 0, tmp_path / "killed"
    checkpoints = output / "checkpoints"
    while kills < 20:
        worker = start(output, bert)
        before = set(os.listdir(checkpoints)) if checkpoints.is_dir() else set()
        # Kill once it has got further, at a moment of its own choosing.
        while worker.poll() is None:
            now = set(os.listdir(checkpoints)) if checkpoints.is_dir() else set()
            if now - before:
                time.sleep(random.uniform(0, 0.3))
                break
            time.sleep(0.01)
        if worker.poll() is not None:
            break
        os.killpg(worker.pid, signal.SIGKILL)
        worker.wait()
        kills += 1
    print(f"{kills} kills")
    if worker.poll() is None or worker.returncode:
        assert start(output, bert).wait() == 0
    assert kills == 20
    calm, killed = (np.load(tmp_path / name / "end.npz") for name in ("calm", "killed"))
    for name in calm.files:
        np.testing.assert_array_equal(calm[name], killed[name])
    calm, killed = ((tmp_path / name / "history.jsonl").read_text() for name in ("calm", "killed"))
    assert calm == killed and len(calm.splitlines()) == STEPS
