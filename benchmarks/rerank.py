"""Query reuse: one query with N documents against the same pairs computed whole.

python benchmarks/rerank.py: a random decoder, prompts of 120 shared and about 60 own tokens.
"""

import time
from statistics import median

import jax
import jax.numpy as jnp
import numpy as np

from jaxpool import params
from jaxpool.arch import Arch, Rotary
from jaxpool.batch import Request
from jaxpool.compile import Executor
from jaxpool.engine import Engine, EngineOptions
from jaxpool.heads import Dense, Pool, abstract
from jaxpool.sharding import make_mesh
from jaxpool.task import Task

DOCUMENTS, PREFIX, OWN = 64, 120, 60
ARCH = Arch(
    vocab=8192,
    layers=8,
    dim=512,
    heads=8,
    kv_heads=4,
    head_dim=64,
    mlp_dim=1536,
    norm="rms",
    placement="pre",
    final_norm=True,
    causal=True,
    rotary=(Rotary(10_000.0, 64),),
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
    return Engine(executor, ARCH.max_length, EngineOptions())


def requests(shared: bool) -> list[Request]:
    """The prompts of one query with its documents."""
    rng = np.random.default_rng(0)
    prefix = rng.integers(5, ARCH.vocab, PREFIX)
    sizes = rng.integers(OWN // 2, OWN * 3 // 2, DOCUMENTS)
    texts = [np.concatenate([prefix, rng.integers(5, ARCH.vocab, n)]) for n in sizes]
    return [Request(ids.astype(np.int32), shared=PREFIX * shared) for ids in texts]


def main() -> None:
    """Print the time of both ways, taken in turns, and how far their scores lie apart."""
    runner = engine()
    kinds = {"whole": requests(False), "shared": requests(True)}
    times: dict[str, list[float]] = {kind: [] for kind in kinds}
    scores = {kind: np.stack(runner.finish(runner.start(TASK, r))) for kind, r in kinds.items()}
    for _ in range(5):
        for kind, asked in kinds.items():
            start = time.perf_counter()
            runner.finish(runner.start(TASK, asked))
            times[kind].append(time.perf_counter() - start)
    whole, shared = (median(times[kind]) for kind in ("whole", "shared"))
    far = np.abs(scores["whole"] - scores["shared"]).max()
    print(f"{jax.devices()[0].device_kind}: {DOCUMENTS} documents, {PREFIX} shared tokens each")
    print(f"whole {whole:.3f} s, shared {shared:.3f} s: {whole / shared:.2f} times as fast")
    print(f"greatest difference of a score: {far:.1e}")


if __name__ == "__main__":
    main()
