"""A run of two processes with two devices each gives the curve and the model of one device."""

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import jaxpool
from jaxpool.train.trainer import Trainer
from tests.train.test_trainer import losses_of, options, pairs


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_two_processes(bert, tmp_path):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    root = Path(__file__).parents[2]
    environment = os.environ | {"PYTHONPATH": str(root), "JAX_PLATFORMS": "cpu", "XLA_FLAGS": ""}
    command = [sys.executable, "-m", "tests.train.process_worker", bert, tmp_path, address]
    workers = [
        subprocess.Popen([*map(str, command), number], cwd=root, env=environment)
        for number in ("0", "1")
    ]
    assert [worker.wait(240) for worker in workers] == [0, 0]
    one = Trainer(str(bert), pairs(40), options(tmp_path / "one"))
    one.train()
    one.save(tmp_path / "one" / "model")
    for number in (0, 1):
        losses = json.loads((tmp_path / f"losses_{number}.json").read_text())
        np.testing.assert_allclose(losses, losses_of(one), rtol=1e-5)
    texts = [text for pair in pairs(4) for text in pair]
    many, alone = (jaxpool.load(str(tmp_path / x / "model")) for x in ("", "one"))
    np.testing.assert_allclose(many.encode(texts), alone.encode(texts), atol=1e-4)
