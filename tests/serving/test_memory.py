"""Buffers of a batch are those of the batch before it, not new pages of the system."""

import subprocess
import sys
from pathlib import Path

SCRIPT = """
import resource, sys
import numpy as np
from serving.process import keep_large_buffers

def batch():
    for buffer in [np.empty(megabytes << 17) for megabytes in (24, 20, 16, 28)]:
        buffer[::512] = 1  # every page

if sys.argv[1] == "yes":
    keep_large_buffers()
batch()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(10):
    batch()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def faults(setting: str) -> int:
    """Pages that ten batches of a process make the system clear."""
    command = [sys.executable, "-c", SCRIPT, setting]
    return int(subprocess.check_output(command, cwd=Path(__file__).parents[2]))


def test_large_buffers_are_used_again():
    assert faults("yes") < 100 < faults("no")
