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


def shares(result: dict, file: Path) -> None:
    """Share of the matmul peak by the length of texts, a panel a model (gpu.py)."""
    models = list(dict.fromkeys(row["model"] for row in result["rows"]))
    figure, axes = plt.subplots(1, len(models), figsize=(4 * len(models), 4), sharey=True)
    for axis, model in zip(axes, models, strict=True):
        points: dict[str, list[tuple[int, float]]] = {}
        for row in result["rows"]:
            if row["model"] == model and "of peak" in row:
                points.setdefault(row["system"], []).append((row["length"], row["of peak"]))
        for system, line in points.items():
            axis.semilogx(*zip(*line, strict=True), marker="o", base=2, label=system)
        axis.set_title(model)
        axis.set_xlabel("tokens a text")
    axes[0].set_ylabel(f"share of matmul peak ({result['device']}, {result['date']})")
    axes[0].legend()
    figure.tight_layout()
    figure.savefig(file)


def padding(file: Path) -> None:
    """Real over computed tokens of the planner by the number of requests, on three mixes."""
    import numpy as np
    from engine import MIXES

    from jaxpool.engine import planner

    rng = np.random.default_rng(0)
    figure, axis = plt.subplots(figsize=(7, 4))
    counts = [10, 30, 100, 300, 1000, 3000, 10000]
    for name, (limit, draw) in MIXES.items():
        shares = []
        for count in counts:
            lengths = draw(rng, count).astype(int).tolist()
            plans = planner.plan(lengths, planner.bucket_lengths(limit), max(1024, limit))
            shares.append(planner.efficiency(plans, lengths))
        axis.semilogx(counts, shares, marker="o", label=name)
    axis.axhline(0.95, color="grey", linewidth=0.8)
    axis.set_xlabel("requests planned at once")
    axis.set_ylabel("real / computed tokens")
    axis.legend()
    figure.tight_layout()
    figure.savefig(file)


def main(files: list[Path], output: Annotated[Path, typer.Option()] = Path(".")):
    """Write throughput.png of offline.py's results, gpu-DEVICE.png of gpu.py's, padding.png."""
    output.mkdir(parents=True, exist_ok=True)
    results = [json.loads(file.read_text()) for file in files]
    if offline := [r for r in results if {"documents", "dtype"} <= r.keys()]:
        throughput(offline, output / "throughput.png")
    for result in results:
        if "copy GB/s" in result:
            shares(result, output / f"gpu-{result['device'].replace(' ', '-')}.png")
    padding(output / "padding.png")


if __name__ == "__main__":
    typer.run(main)
