"""Memory that is freed goes back to the system."""

import subprocess
import sys
from pathlib import Path

SCRIPT = """
import sys
import numpy as np
from serving.memory import give_back_large_buffers

def private():
    with open("/proc/self/smaps_rollup") as file:
        return sum(int(line.split()[1]) for line in file if line.startswith("Anonymous:"))

if sys.argv[1] == "yes":
    give_back_large_buffers()
before = private()
for megabytes in (20, 16, 12, 16):  # each freed block makes glibc keep the next ones of its size
    kept = [np.ones(megabytes << 17), np.ones(1 << 12)]  # something small lies on top
    del kept[0]
    keep = kept if megabytes == 12 else None
print(private() - before)
"""


def left(setting: str) -> int:
    """KiB that a process has more than before, after it has freed four large buffers."""
    command = [sys.executable, "-c", SCRIPT, setting]
    return int(subprocess.check_output(command, cwd=Path(__file__).parents[2]))


def test_large_buffers_are_given_back():
    assert left("yes") < 4096 < left("no")
