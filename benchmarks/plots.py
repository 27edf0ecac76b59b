"""Plots of results: `python benchmarks/plots.py RESULT.json... --output DIR`."""

import json
from pathlib import Path
from typing import Annotated

import matplotlib
import typer

matplotlib.use("Agg")
from matplotlib import pyplot as plt  # noqa: E402


def throughput(results: list[dict], file: Path) -> None:
    """Documents a second of each system, a group of bars a result."""
    figure, axis = plt.subplots(figsize=(7, 0.6 * sum(len(r["rows"]) for r in results) + 1))
    names, values = [], []
    for result in results:
        for row in result["rows"]:
            names.append(f"{row['system']} {result['dtype']}")
            values.append(row["documents/s"])
    axis.barh(names[::-1], values[::-1])
    axis.set_xlabel(f"documents/s ({results[0]['cpu']}, {results[0]['date']})")
    figure.tight_layout()
    figure.savefig(file)


def padding(file: Path) -> None:
    """Real over computed tokens of the planner by the number of requests, on three mixes."""
    import numpy as np
    from engine import MIXES

    from jaxpool import planner

    rng = np.random.default_rng(0)
    figure, axis = plt.subplots(figsize=(7, 4))
    counts = [10, 30, 100, 300, 1000, 3000, 10000]
    for name, (limit, draw) in MIXES.items():
        shares = []
        for count in counts:
            lengths = draw(rng, count).astype(int).tolist()
            plans = planner.plan(lengths, planner.ladder(limit), max(1024, limit))
            shares.append(planner.efficiency(plans, lengths))
        axis.semilogx(counts, shares, marker="o", label=name)
    axis.axhline(0.95, color="grey", linewidth=0.8)
    axis.set_xlabel("requests planned at once")
    axis.set_ylabel("real / computed tokens")
    axis.legend()
    figure.tight_layout()
    figure.savefig(file)


def main(files: list[Path], output: Annotated[Path, typer.Option()] = Path(".")):
    """Write throughput.png from offline.py's results, and padding.png from the planner."""
    output.mkdir(parents=True, exist_ok=True)
    results = [json.loads(file.read_text()) for file in files]
    throughput([r for r in results if "documents" in r], output / "throughput.png")
    padding(output / "padding.png")


if __name__ == "__main__":
    typer.run(main)
