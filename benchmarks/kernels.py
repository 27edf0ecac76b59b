"""Where a program's time goes: the kernels of a full batch on this device, longest first.

    python benchmarks/kernels.py [SHAPE...] [--length 128] [--top 12] [--tiny]

Traces full batches of a shape of random_checkpoint.py in flight with jax's profiler. Prints of each
kernel how often a batch runs it, its milliseconds a batch and its share of the time; `idle` is when
the device ran nothing. On CPU a loop is listed beside what it runs, and shares add up to more than
one.
"""

import re
import time
from collections import defaultdict
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated

import gpu
import jax
import measure
import random_checkpoint
import typer

import jaxpool

# The planes and lines of a trace that hold what ran on a device.
LINES = {
    "gpu": ("/device:GPU", "Stream"),
    "tpu": ("/device:TPU", "XLA Ops"),
    "cpu": ("/host:CPU", "tf_XLA"),
}


Names = Annotated[list[str], typer.Argument()]


def kernels(folder: Path) -> dict[str, tuple[int, float]]:
    """Runs and milliseconds of each kernel of a trace; numbers that end a name are dropped."""
    (file,) = folder.rglob("*.xplane.pb")
    place, kind = LINES[jax.default_backend()]
    found: dict[str, list[float]] = defaultdict(list)
    for plane in jax.profiler.ProfileData.from_file(str(file)).planes:
        for line in plane.lines if plane.name.startswith(place) else ():
            for event in line.events if line.name.startswith(kind) else ():
                found[re.sub(r"[._]\d+$", "", event.name)].append(event.duration_ns / 1e6)
    return {name: (len(times), sum(times)) for name, times in found.items()}


def traced(run) -> tuple[dict[str, tuple[int, float]], float]:
    """The kernels of a run, and its milliseconds."""
    run()
    with TemporaryDirectory() as place:
        with jax.profiler.trace(place):
            start = time.perf_counter()
            run()
            wall = time.perf_counter() - start
        return kernels(Path(place)), 1e3 * wall


def main(
    names: Names = (*random_checkpoint.SHAPES,),
    length: int = 128,
    top: int = 12,
    tiny: bool = False,
):
    """Trace each shape and print its table."""
    device = "cpu" if jax.default_backend() == "cpu" else "cuda"
    for name in names:
        with TemporaryDirectory() as place:
            random_checkpoint.make(Path(place), name, length, tiny, device)
            run, texts = gpu.program(jaxpool.load(place), length)
            found, wall = traced(run)
        wall /= gpu.FLIGHT
        rows = [
            {"kernel": kernel[:60], "runs": round(runs / gpu.FLIGHT, 1), "ms": ms / gpu.FLIGHT}
            for kernel, (runs, ms) in sorted(found.items(), key=lambda one: -one[1][1])
        ]
        busy = sum(row["ms"] for row in rows)
        idle = {"kernel": "idle", "runs": "", "ms": wall - busy}
        rows = [*rows[:top], {"kernel": "all", "runs": "", "ms": busy}, idle]
        rows = [
            row | {"ms": round(row["ms"], 3), "share": round(row["ms"] / wall, 3)} for row in rows
        ]
        facts = {
            "shape": name,
            "texts": texts // gpu.FLIGHT,
            "length": length,
            "ms": round(wall, 3),
        }
        measure.report(measure.machine() | facts, rows, None)


if __name__ == "__main__":
    typer.run(main)
