"""Share of a GPU's matmul peak for encoder and decoder shapes; random weights, no network.

    python benchmarks/gpu.py [SHAPE...] [--tiny] [--budget 360] [--output FILE]

Measures the bfloat16 matmul peak and the copy bandwidth. Then, for each shape and text length, in
turn within one run: jaxpool from texts to vectors; its program alone, from token ids;
sentence-transformers (bfloat16, its fastest attention and batch size; it sorts by length itself);
and the same with torch.compile. Both sides read one checkpoint and their vectors are compared.
After `--budget` seconds nothing is started: what finds no time is left out, torch.compile first,
and says so.
`--tiny` shrinks everything to a smoke test for any machine; its numbers mean nothing.
"""

import json
import os
import statistics
import time
from collections.abc import Callable, Iterator
from copy import deepcopy
from importlib.metadata import version
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated

os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")  # torch needs memory as well
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ.setdefault("TOKENIZERS_PARALLELISM", "true")

import jax
import jax.numpy as jnp
import measure
import numpy as np
import random_checkpoint
import typer

import jaxpool
from jaxpool.engine.batch import Request
from jaxpool.nn.kernels import backend

LENGTHS = (32, 128, 512, 2048)
TOKENS = 262144  # of the texts of a round
BATCHES = (8192, 32768, 65536)  # tokens of a batch of the peer, of which the fastest counts
ROUNDS = 3
FLIGHT = 8  # batches that the program is given at once
VERSIONS = ("jax", "jaxlib", "torch", "transformers", "sentence-transformers")
RESULTS = Path(__file__).parent / "results"


def seconds(run: Callable[[], object], rounds: int = 5) -> float:
    """The median time of a call, after one that compiles."""
    run()
    times = []
    for _ in range(rounds):
        start = time.perf_counter()
        run()
        times.append(time.perf_counter() - start)
    return statistics.median(times)


def matmul_peak(size: int, repeats: int = 16) -> float:
    """FLOP/s of square bfloat16 products of random numbers, each waiting for the one before."""
    keys = jax.random.split(jax.random.key(0))
    x, w = (jax.random.normal(key, (size, size), jnp.bfloat16) for key in keys)
    w = w / np.sqrt(size).astype(w.dtype)
    run = jax.jit(lambda x: jax.lax.fori_loop(0, repeats, lambda _, x: x @ w, x))
    return 2 * size**3 * repeats / seconds(lambda: run(x).block_until_ready())


def copy_bandwidth(megabytes: int) -> float:
    """Bytes a second of a device copy, read and write."""
    x = jnp.ones(megabytes << 18, jnp.float32)
    copy = jax.jit(lambda x: x + 1)
    return 2 * x.nbytes / seconds(lambda: copy(x).block_until_ready())


def program(model, length: int) -> tuple[Callable, int]:
    """`run()` of full batches in flight, from token ids to vectors on the device; their texts."""
    engine, task = model.engine, model.task("embed")
    count = max(1, engine.budget // length)
    ids = np.random.default_rng(0).integers(5, 1000, (count, length)).astype(np.int32)
    requests = [Request(row) for row in ids]
    plan = engine.plan(requests)[0][0]
    every = range(FLIGHT)
    run = lambda: jax.block_until_ready([engine.dispatch(task, plan, requests) for _ in every])  # noqa: E731
    return run, FLIGHT * len(plan.request)


def peers(folder: Path, device: str) -> dict:
    """The checkpoint in sentence-transformers, by the attention it runs."""
    import torch
    from sentence_transformers import SentenceTransformer
    from transformers.utils import is_flash_attn_2_available

    kinds = ["sdpa"] + ["flash_attention_2"] * is_flash_attn_2_available()
    dtype = torch.bfloat16 if device == "cuda" else torch.float32
    torch.set_grad_enabled(False)
    return {
        kind: SentenceTransformer(
            str(folder), device=device, model_kwargs={"dtype": dtype, "attn_implementation": kind}
        )
        for kind in kinds
    }


def encoder(peer, texts: list[str], batch: int) -> Callable:
    """`run()` of sentence-transformers on some texts."""
    return lambda: peer.encode(texts, batch_size=batch, show_progress_bar=False)


def fastest(loaded: dict, texts: list[str], length: int) -> tuple[str, int]:
    """The attention and the batch size with which sentence-transformers is fastest."""
    sizes = sorted({min(len(texts), max(1, tokens // length)) for tokens in BATCHES})
    times = {
        (kind, size): seconds(encoder(peer, texts, size), 1)
        for kind, peer in loaded.items()
        for size in sizes
    }
    return min(times, key=times.get)


def compare(ours: np.ndarray, theirs: np.ndarray, where: str) -> None:
    """Stop where two systems do not compute the same vectors."""
    cosine = float((ours * theirs).sum(-1).min())
    if cosine < 0.99:
        raise SystemExit(f"{where}: vectors differ, cosine {cosine:.4f}")


def measure_length(model, loaded: dict, length: int, tokens: int, compiler: str | None) -> Iterator:
    """Every system on texts of one length: its facts, texts of a round, seconds."""
    texts = random_checkpoint.texts(max(1, tokens // length), length)
    attention, batch = fastest(loaded, texts, length)
    peer = loaded[attention]
    run, count = program(model, length)
    setting = {"attention": attention, "batch": batch}
    systems = {
        "jaxpool program": (run, count, {"attention": backend(model.arch, length)}),
        "jaxpool": (lambda: model.encode(texts), len(texts), {}),
        "sentence-transformers": (encoder(peer, texts, batch), len(texts), setting),
    }
    compare(model.encode(texts), encoder(peer, texts, batch)(), f"{length} tokens")
    times = measure.alternate({name: run for name, (run, *_) in systems.items()}, ROUNDS)
    for name, (_, count, facts) in systems.items():
        yield {"system": name, **facts}, count, statistics.median(wall for wall, _ in times[name])
    name = "torch.compile"
    if compiler is None:
        yield {"system": name, "not run": "no time left"}, len(texts), None
        return
    twin = deepcopy(peer)
    twin[0].auto_model.compile(backend=compiler, dynamic=False)
    yield {"system": name, **setting}, len(texts), seconds(encoder(twin, texts, batch), ROUNDS)


def measure_model(name: str, lengths, tokens: int, tiny: bool, peak: float, until: float, end):
    """The rows of one shape; torch.compile is started before `until`, anything before `end`."""
    device = "cpu" if jax.default_backend() == "cpu" else "cuda"
    with TemporaryDirectory() as place:
        folder = Path(place)
        random_checkpoint.make(folder, name, max(lengths), tiny, device)
        model, loaded = jaxpool.load(place), peers(folder, device)
        for length in lengths:
            if time.monotonic() > end:
                yield {"model": name, "length": length, "not run": "no time left"}
                continue
            late = time.monotonic() > until
            compiler = None if late else "eager" if tiny else "inductor"
            for row, count, took in measure_length(model, loaded, length, tokens, compiler):
                row = {"model": name, "length": length, **row}
                if took is not None:
                    rate = measure.flops(model.params, model.arch, [length] * count) / took
                    row |= {"tokens/s": round(count * length / took)}
                    row |= {"TFLOP/s": round(rate / 1e12, 3), "of peak": round(rate / peak, 3)}
                print(json.dumps(row), flush=True)
                yield row


def ratios(rows: list[dict]) -> list[dict]:
    """How many times the peers' tokens/s jaxpool reaches, from text to vector."""
    found = {(r["model"], r["length"], r.get("system")): r.get("tokens/s") for r in rows}
    return [
        {"model": model, "length": length, "times": system, "ratio": round(ours / theirs, 2)}
        for (model, length, system), theirs in found.items()
        if theirs and system not in ("jaxpool", "jaxpool program")
        for ours in [found[model, length, "jaxpool"]]
    ]


def main(
    shapes: Annotated[list[str] | None, typer.Argument()] = None,
    tiny: bool = False,
    budget: float = 360,
    output: Path | None = None,
):
    """Run shapes (all if none is named) and print their rows.

    Where all ran they are kept in results/gpu-DEVICE.json, unless --tiny or `output` is another.
    """
    names = shapes or list(random_checkpoint.SHAPES)
    if unknown := set(names) - random_checkpoint.SHAPES.keys():
        raise typer.BadParameter(f"{unknown} of {[*random_checkpoint.SHAPES]}")
    start = time.monotonic()
    lengths, tokens = ((32, 128), 512) if tiny else (LENGTHS, TOKENS)
    peak = matmul_peak(64 if tiny else 8192)
    facts = {**measure.machine(), **{name: version(name) for name in VERSIONS}}
    facts |= {"smoke test": tiny, "matmul peak TFLOP/s": round(peak / 1e12, 3)}
    facts["copy GB/s"] = round(copy_bandwidth(8 if tiny else 1024) / 1e9, 1)
    print(json.dumps(facts, indent=1), flush=True)
    rows: list[dict] = []
    for i, name in enumerate(names, start=1):
        until = start + budget * i / len(names)
        rows += measure_model(name, lengths, tokens, tiny, peak, until, start + budget)
    page = {**facts, "rows": rows, "ratios": ratios(rows)}
    page["seconds"] = round(time.monotonic() - start)
    print(json.dumps(page["ratios"], indent=1))
    if not tiny and output is None and not shapes:
        output = RESULTS / f"gpu-{facts['device'].replace(' ', '-')}.json"
    if output:
        output.write_text(json.dumps(page, indent=1) + "\n")


if __name__ == "__main__":
    typer.run(main)
