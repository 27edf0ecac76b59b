"""Query reuse: one query with N documents against the same prompts computed whole, in turns.

    python benchmarks/rerank.py [--prefix 160] [--own 60] [--documents 64] [--output FILE.json]

A random decoder of Qwen3's shape, 6 layers of 512 features; prompts share `prefix` tokens (the
template, an instruction, the query) and have `own` more on average. `fewer_tokens` is what
`faster_cpu` would be if attention were free; processor time minds other processes less than wall.
"""

import time
from pathlib import Path
from statistics import median

import jax
import jax.numpy as jnp
import measure
import numpy as np
import typer

from jaxpool.engine.batch import Request
from jaxpool.engine.engine import Engine, EngineOptions
from jaxpool.engine.executor import Executor
from jaxpool.engine.programs import Programs
from jaxpool.engine.sharding import make_mesh
from jaxpool.heads.steps import Dense, Pool, abstract
from jaxpool.nn import params
from jaxpool.nn.arch import Arch, Rotary
from jaxpool.tasks.task import Task

ROUNDS = 4
ARCH = Arch(
    vocab=8192,
    layers=6,
    dim=512,
    heads=8,
    kv_heads=4,
    head_dim=64,
    mlp_dim=1536,
    norm="rms",
    placement="pre",
    final_norm=True,
    causal=True,
    qk_norm="head",
    rotary=(Rotary(1e6, 64),),
    qkv_bias=False,
    out_bias=False,
    gated=True,
    activation="silu",
    mlp_bias=False,
    max_length=4096,
)
TASK = Task("classify", (Pool(("lasttoken",)), Dense("score", 512, 1)))


def engine() -> Engine:
    """An engine of a random model that lets texts share a prefix."""
    leaves = params.abstract(ARCH) | {"heads": abstract([TASK.steps])}
    weights = params.init(jax.random.key(0), leaves, 0.05, jnp.float32)
    executor = Executor(weights, ARCH, make_mesh(1, 1), context=True)
    return Engine(executor, ARCH.max_length, EngineOptions(), Programs([TASK]))


def requests(prefix: int, own: int, documents: int, shared: bool) -> list[Request]:
    """The prompts of one query with its documents."""
    rng = np.random.default_rng(0)
    first = rng.integers(5, ARCH.vocab, prefix)
    sizes = rng.integers(own // 2, own * 3 // 2, documents)
    texts = [np.concatenate([first, rng.integers(5, ARCH.vocab, n)]) for n in sizes]
    return [Request(ids.astype(np.int32), shared=prefix * shared) for ids in texts]


def main(prefix: int = 160, own: int = 60, documents: int = 64, output: Path | None = None) -> None:
    """Print scores, tokens and times of both ways."""
    runner = engine()
    kinds = {k: requests(prefix, own, documents, k == "shared") for k in ("whole", "shared")}
    scores, tokens, times = {}, {}, {kind: [] for kind in kinds}
    for turn in range(ROUNDS + 1):  # the first compiles
        for kind, asked in kinds.items():
            before, wall, cpu = runner.computed_tokens, time.perf_counter(), time.process_time()
            scores[kind] = np.stack(runner.finish(runner.start(TASK, asked)))
            spent = time.perf_counter() - wall, time.process_time() - cpu
            tokens[kind] = runner.computed_tokens - before
            if turn:
                times[kind].append(spent)
    wall, cpu = ({k: median(t[i] for t in times[k]) for k in kinds} for i in (0, 1))
    facts = {
        "prompts": f"{documents} of {prefix} + {own} tokens",
        "faster_wall": round(wall["whole"] / wall["shared"], 2),
        "faster_cpu": round(cpu["whole"] / cpu["shared"], 2),
        "fewer_tokens": round(tokens["whole"] / tokens["shared"], 2),
        "greatest_difference": float(f"{np.abs(scores['whole'] - scores['shared']).max():.1e}"),
    }
    rows = [
        {
            "prompts": kind,
            "seconds": round(wall[kind], 3),
            "cpu_seconds": round(cpu[kind], 3),
            "computed_tokens": tokens[kind],
        }
        for kind in kinds
    ]
    measure.report(measure.machine() | facts, rows, output)


if __name__ == "__main__":
    typer.run(main)
