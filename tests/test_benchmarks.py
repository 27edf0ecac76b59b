"""The benchmarks that need other machines run through, at sizes that mean nothing."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent


def run(*command: str) -> None:
    done = subprocess.run([sys.executable, *command], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.slow
def test_gpu_benchmark_measures_every_system_on_every_shape(tmp_path):
    run("benchmarks/gpu.py", "--tiny", "--output", str(tmp_path / "gpu.json"))
    page = json.loads((tmp_path / "gpu.json").read_text())
    assert page["smoke test"] and page["matmul peak TFLOP/s"] > 0 and page["copy GB/s"] > 0
    measured = {(r["model"], r["length"], r["system"]) for r in page["rows"] if r["tokens/s"] > 0}
    models = ("BERT-base", "XLM-R-large", "Qwen3-0.6B")
    systems = ("jaxpool program", "jaxpool", "sentence-transformers", "torch.compile")
    assert measured == {(m, n, s) for m in models for n in (32, 128) for s in systems}
    assert len(page["ratios"]) == 12
    run("benchmarks/plots.py", str(tmp_path / "gpu.json"), "--output", str(tmp_path))
    assert (tmp_path / "gpu-cpu.png").is_file()


@pytest.mark.slow
def test_images_benchmark_measures_both_sides_of_every_shape(tmp_path):
    run("benchmarks/images.py", "--tiny", "--device", "cpu", "--output", str(tmp_path / "a.json"))
    page = json.loads((tmp_path / "a.json").read_text())
    measured = {(row["model"], row["system"]) for row in page["rows"] if row["images/s"] > 0}
    systems = ("jaxpool", "transformers", "jaxpool from patches", "transformers from pixels")
    models = ("CLIP-B/32", "SigLIP-so400m", "Qwen3-VL-2B")
    assert measured == {(model, system) for model in models for system in systems}
    assert len(page["ratios"]) == 6


@pytest.mark.slow
def test_host_benchmark_times_every_step(tmp_path):
    run("benchmarks/host.py", "ceiling", "--count", "64", "--output", str(tmp_path / "host.json"))
    page = json.loads((tmp_path / "host.json").read_text())
    rows = {(row["model"], row["tokens"]): row for row in page["rows"]}
    assert len(rows) == 6 and all(row["texts/s a core"] > 0 for row in rows.values())
    assert all(row["tokenize"] > row["plan"] > 0 for row in rows.values())


def test_plots_of_what_was_measured(tmp_path):
    results = sorted(map(str, (ROOT / "benchmarks" / "results").glob("*.json")))
    run("benchmarks/plots.py", *results, "--output", str(tmp_path))
    assert {file.name for file in tmp_path.iterdir()} >= {"throughput.png", "padding.png"}
