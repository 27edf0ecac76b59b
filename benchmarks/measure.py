"""What the benchmarks share: texts, FLOPs, the machine's matmul peak, alternating rounds."""

import inspect
import json
import os
import pkgutil
import platform
import sys
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from importlib import import_module
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

PACKAGES = ("numpy", "jax", "json", "email", "http", "asyncio", "unittest", "logging", "xml")


def docstrings() -> Iterator[str]:
    """Paragraphs of the docstrings of installed packages, in a fixed order."""
    for package in PACKAGES:
        root = import_module(package)
        names = sorted(module.name for module in pkgutil.iter_modules(root.__path__))
        for name in ("", *(f".{name}" for name in names if not name.startswith("_"))):
            module = sys.modules.get(package + name)
            for _, member in sorted(vars(module).items()) if module else ():
                doc = inspect.getdoc(member) if callable(member) else None
                yield from (doc or "").split("\n\n")


def paragraphs(tokenizer, count: int, shortest: int = 10, longest: int = 256) -> list[str]:
    """`count` distinct paragraphs of `shortest` to `longest` tokens, shuffled."""
    texts = list(dict.fromkeys(" ".join(text.split()) for text in docstrings()))
    sizes = [len(ids) for ids, *_ in tokenizer(texts)]
    fit = [text for text, n in zip(texts, sizes, strict=True) if shortest <= n <= longest]
    if len(fit) < count:
        raise SystemExit(f"only {len(fit)} paragraphs found, wanted {count}")
    return [fit[i] for i in np.random.default_rng(0).permutation(len(fit))[:count]]


def flops(params: dict, arch, lengths) -> float:
    """Operations on real tokens: 2 a weight of the layers, and the two products of attention."""
    weights = sum(leaf.size for leaf in jax.tree.leaves(params["layers"]) if leaf.ndim > 2)
    if arch.shared_layers:
        weights *= arch.layers
    lengths = np.asarray(lengths, float)
    attention = 4 * arch.layers * arch.heads * arch.head_dim * (lengths**2).sum()
    return 2 * weights * lengths.sum() + attention / (2 if arch.causal else 1)


def peak(dtype: str, tokens: int, dim: int, mlp: int) -> Callable[[], float]:
    """`sample()`: FLOP/s of the better of the two products of an MLP and of a square one."""
    dot = jax.jit(lambda a, b: jnp.dot(a, b, preferred_element_type=jnp.float32))
    shapes = ((tokens, dim, mlp), (tokens, mlp, dim), (2048, 2048, 2048))
    pairs = [(jnp.ones((m, k), dtype), jnp.ones((k, n), dtype)) for m, k, n in shapes]

    def sample() -> float:
        best = 0.0
        for a, b in pairs:
            dot(a, b).block_until_ready()
            for _ in range(5):
                start = time.perf_counter()
                dot(a, b).block_until_ready()
                seconds = time.perf_counter() - start
                best = max(best, 2 * a.size * b.shape[1] / seconds)
        return best

    return sample


def alternate(systems: dict[str, Callable], rounds: int) -> dict[str, list[tuple[float, float]]]:
    """Run each system in turn, after one round unmeasured: (wall, CPU) seconds of every round."""
    times: dict[str, list] = {name: [] for name in systems}
    for turn in range(rounds + 1):
        for name, run in systems.items():
            wall, cpu = time.perf_counter(), time.process_time()
            run()
            if turn:
                times[name].append((time.perf_counter() - wall, time.process_time() - cpu))
    return times


def table(rows: list[dict]) -> None:
    """Print rows under their names."""
    widths = {name: max(len(name), *(len(str(r[name])) for r in rows)) for name in rows[0]}
    for line in ({name: name for name in rows[0]}, *rows):
        print("  ".join(str(line[name]).rjust(width) for name, width in widths.items()))


def report(facts: dict, rows: list[dict], output: Path | None) -> None:
    """Print facts and rows, and write them where that is asked for."""
    print(json.dumps(facts, indent=1))
    table(rows)
    if output:
        output.write_text(json.dumps({**facts, "rows": rows}, indent=1) + "\n")


def resident(name: str) -> int:
    """Bytes of this process's memory: VmRSS now, VmHWM at its peak (Linux).

    The peak of `getrusage` is no help: a process starts with that of the one that started it.
    """
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(1024 * int(line.split()[1]) for line in lines if line.startswith(name))


def machine() -> dict[str, str]:
    """Where and when a result was measured."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.is_file() else []
    model = next((x.split(":")[1].strip() for x in lines if x.startswith("model name")), "")
    device = jax.devices()[0]
    return {
        "date": datetime.now(UTC).strftime("%Y-%m-%d"),
        "cpu": f"{model or platform.machine()}, {os.cpu_count()} cores",
        "device": device.device_kind,
        "jax": jax.__version__,
        "python": platform.python_version(),
    }
