"""Query reuse: one query with N documents against the same prompts computed whole, in turns.

    python benchmarks/rerank.py [--prefix 160] [--own 60] [--documents 64] [--output FILE.json]

A random decoder of Qwen3's shape, 6 layers of 512 features; prompts share `prefix` tokens (the
template, an instruction, the query) and have `own` more on average. `fewer_tokens` is what
`faster_cpu` would be if attention were free; processor time minds other processes less than wall.
"""

import argparse
import json
import time
from pathlib import Path
from statistics import median

import jax
import jax.numpy as jnp
import measure
import numpy as np

from jaxpool import params
from jaxpool.arch import Arch, Rotary
from jaxpool.batch import Request
from jaxpool.compile import Executor
from jaxpool.engine import Engine, EngineOptions
from jaxpool.heads import Dense, Pool, abstract
from jaxpool.programs import Programs
from jaxpool.sharding import make_mesh
from jaxpool.task import Task

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


def requests(options, shared: bool) -> list[Request]:
    """The prompts of one query with its documents."""
    rng = np.random.default_rng(0)
    prefix = rng.integers(5, ARCH.vocab, options.prefix)
    sizes = rng.integers(options.own // 2, options.own * 3 // 2, options.documents)
    texts = [np.concatenate([prefix, rng.integers(5, ARCH.vocab, n)]) for n in sizes]
    return [Request(ids.astype(np.int32), shared=options.prefix * shared) for ids in texts]


def measured(options) -> dict:
    """Scores, tokens and times of both ways."""
    runner = engine()
    kinds = {"whole": requests(options, False), "shared": requests(options, True)}
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
    return {
        "prompts": f"{options.documents} of {options.prefix} + {options.own} tokens",
        "seconds": {k: round(wall[k], 3) for k in kinds},
        "cpu_seconds": {k: round(cpu[k], 3) for k in kinds},
        "computed_tokens": tokens,
        "faster_wall": round(wall["whole"] / wall["shared"], 2),
        "faster_cpu": round(cpu["whole"] / cpu["shared"], 2),
        "fewer_tokens": round(tokens["whole"] / tokens["shared"], 2),
        "greatest_difference": float(f"{np.abs(scores['whole'] - scores['shared']).max():.1e}"),
    }


def main() -> None:
    """Measure, print, and write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    for name, default in (("prefix", 160), ("own", 60), ("documents", 64)):
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--output", type=Path)
    options = parser.parse_args()
    result = measure.machine() | measured(options)
    print(json.dumps(result, indent=2))
    if options.output:
        options.output.write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
