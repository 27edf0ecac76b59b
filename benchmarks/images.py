"""Images/s of three vision shapes beside transformers' torch models; random weights, no network.

    python benchmarks/images.py [NAME...] [--device cpu] [--layers N] [--dtype bfloat16] [--tiny]
    python benchmarks/images.py CLIP-B/32 --device cpu --vllm DIR

Both sides read one checkpoint, get the same pictures of ten common sizes (`random_vision.MIX`),
and their vectors are compared. Then, in turn within one run: jaxpool and transformers from pictures
in memory to vectors, and both from patches to vectors. torch runs its fastest attention and batch
size, from pixels that are on its device already; a Qwen3-VL gets its token ids for nothing. vLLM (a
folder with `venv/bin/python` that has it) has a process of its own, from pictures in memory to
vectors; version 0.32 serves CLIP alone on CPU: it has no attention for SigLIP-so400m's heads of 72
features there, and wants torchvision for Qwen3-VL.
On an accelerator the models are whole, in bfloat16; on CPU `--layers` (6 unless given) of each
tower and text are made, in float32. It takes less than 9 minutes on a GPU: what finds no time is
left out and says so. `--tiny` is a smoke test whose numbers mean nothing.
"""

import json
import os
import statistics
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from importlib.metadata import version
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated

os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")  # torch needs memory as well
os.environ["HF_HUB_OFFLINE"] = "1"

import jax
import measure
import numpy as np
import random_vision
import typer
from gpu import compare, matmul_peak
from image_peers import Peer, Vllm, fastest

import jaxpool
from jaxpool.engine.batch import Request

RESULTS = Path(__file__).parent / "results"
VERSIONS = ("jax", "jaxlib", "torch", "transformers", "pillow")
ROUNDS = 3
SIZES = ", ".join(f"{width} x {height}" for width, height in random_vision.MIX)
SECONDS = 420  # after which nothing is started
COUNTS = {  # pictures of a round
    "cpu": {"CLIP-B/32": 60, "SigLIP-so400m": 10, "Qwen3-VL-2B": 10},
    "cuda": {"CLIP-B/32": 1000, "SigLIP-so400m": 600, "Qwen3-VL-2B": 300},
}


def work(model, requests: Sequence[Request]) -> float:
    """Operations on real patches and tokens: products of layers, patches, mergers, attention."""
    tower, params = model.arch.vision, model.params["vision"]
    pictures = [p for r in requests for p in (r.pictures or (r.picture,))]
    patches = [len(picture.patches) for picture in pictures]
    total = measure.flops(params, tower, patches)
    total += 2 * sum(patches) * tower.patches.values * tower.dim
    if model.arch.joins:
        merging = {name: params[name] for name in ("merger", "deep") if name in params}
        weights = sum(x.size for x in jax.tree.leaves(merging) if x.ndim > 1)
        total += 2 * weights * sum(patches) / tower.merger.patches
        total += measure.flops(model.params, model.arch, [len(r.ids) for r in requests])
    return total


def systems(model, task, peer: Peer, pictures, requests, inputs, size: int) -> dict[str, Callable]:
    """What is measured; each call computes the vectors of all pictures."""
    return {
        "jaxpool": lambda: model.encode(pictures),
        "transformers": lambda: peer.encode(pictures, requests, size),
        "jaxpool from patches": lambda: list(model.run(task, requests)),
        "transformers from pixels": lambda: [peer.vectors(x) for x in inputs],
        "jaxpool prepares": lambda: model.requests(task, pictures),
        "transformers prepares": lambda: peer.processor(pictures, return_tensors="pt"),
    }


def vllm_beside(stack: ExitStack, vllm: Path, model: Path, dtype: str, pictures, ours) -> Callable:
    """vLLM's vectors of all pictures; they are compared with ours."""
    peer = Vllm(vllm, model, dtype, pictures)
    stack.callback(peer.close)
    file = model / "vectors.npy"
    peer.encode(file)
    compare(ours, np.load(file), "vLLM")
    return peer.encode


def measure_shape(
    folder: Path, shape, pictures: list, device: str, dtype: str, peak: float | None, vllm, stack
):
    """The rows of one shape."""
    random_vision.make(folder, shape, device)
    longest = 4096 if shape.kind == "qwen3_vl" else None
    model = jaxpool.load(str(folder), dtype=dtype, max_model_len=longest)
    task = model.task("embed")
    requests = model.requests(task, pictures)
    order = np.argsort([request.size for request in requests])  # the peer pads within a batch
    pictures, requests = [pictures[i] for i in order], [requests[i] for i in order]
    peer, inputs, setting = fastest(folder, device, dtype, pictures, requests)
    ours = model.encode(pictures)
    compare(ours, peer.encode(pictures, requests, setting["batch"]), shape.kind)
    tower, engine = model.arch.vision, model.picture_engine
    sample = measure.peak(dtype, engine.budget, tower.dim, tower.mlp_dim) if peak is None else None
    before = sample and sample()
    run = systems(model, task, peer, pictures, requests, inputs, setting["batch"])
    if vllm:
        run["vLLM"] = vllm_beside(stack, vllm, folder, dtype, pictures, ours)
    times = {
        name: statistics.median(wall for wall, _ in walls)
        for name, walls in measure.alternate(run, ROUNDS).items()
    }
    peak = max(before, sample()) if sample else peak
    operations = work(model, requests)
    for name in [name for name in run if not name.endswith("prepares")]:
        rate = operations / times[name] / 1e9
        row = {"system": name, "images/s": round(len(pictures) / times[name], 2)}
        row |= {"GFLOP/s": round(rate, 1), "of peak": round(rate * 1e9 / peak, 3)}
        if f"{name} prepares" in times:
            row["host ms"] = round(times[f"{name} prepares"] / len(pictures) * 1e3, 2)
            row["host share"] = round(times[f"{name} prepares"] / times[name], 3)
        if name.startswith("transformers"):
            row |= setting
        elif name.startswith("jaxpool"):
            row["real/computed"] = round(engine.real_tokens / engine.computed_tokens, 3)
        yield row


def ratios(rows: list[dict]) -> list[dict]:
    """How many times the images/s of its peers jaxpool reaches."""
    found = {(r["model"], r["system"]): r["images/s"] for r in rows if "system" in r}
    pairs = (
        ("jaxpool", "transformers"),
        ("jaxpool from patches", "transformers from pixels"),
        ("jaxpool", "vLLM"),
    )
    return [
        {"model": model, "times": theirs, "ratio": round(found[model, ours] / rate, 2)}
        for ours, theirs in pairs
        for (model, system), rate in found.items()
        if system == theirs
    ]


def facts_of(tiny: bool, dtype: str, peak: float | None) -> dict:
    """Where, with what and on what it is measured."""
    facts = {**measure.machine(), **{name: version(name) for name in VERSIONS}}
    facts |= {"smoke test": tiny, "dtype": dtype, "sizes": SIZES}
    return facts if peak is None else facts | {"matmul peak TFLOP/s": round(peak / 1e12, 1)}


def file_of(*parts: str) -> Path:
    """Where the results of a device, and of shapes that were asked for, are kept."""
    return RESULTS / f"images-{'-'.join(parts).replace(' ', '-').replace('/', '-')}.json"


def find_device(asked: str) -> str:
    """torch's name of the device that jax finds, which has to be what is asked for."""
    if asked == "cpu":
        jax.config.update("jax_platforms", "cpu")
    found = "cpu" if jax.default_backend() == "cpu" else "cuda"
    if asked not in ("auto", found):
        raise SystemExit(f"--device {asked}: jax has found {found}")
    return found


def main(
    names: Annotated[list[str] | None, typer.Argument(help="Shapes, all if none is named.")] = None,
    device: Annotated[str, typer.Option(help="auto, cpu or cuda.")] = "auto",
    layers: Annotated[int, typer.Option(help="Layers at most; 0: 6 on CPU, else all.")] = 0,
    dtype: Annotated[str, typer.Option(help="auto: bfloat16, on CPU float32.")] = "auto",
    count: Annotated[int, typer.Option(help="Pictures of a round; 0: by shape.")] = 0,
    tiny: bool = False,
    vllm: Annotated[Path | None, typer.Option(help="A folder whose venv has vLLM.")] = None,
    output: Path | None = None,
):
    """Measure each shape and print a line a system; writes results/images-DEVICE[-NAME...].json."""
    start, device = time.monotonic(), find_device(device)
    if dtype == "auto":
        dtype = "float32" if device == "cpu" else "bfloat16"
    peak = None if device == "cpu" else matmul_peak(8192)  # a CPU's is measured beside each shape
    facts, rows = facts_of(tiny, dtype, peak), []
    print(json.dumps(facts, indent=1), flush=True)
    for name in names or random_vision.SHAPES:
        if time.monotonic() - start > SECONDS:
            rows.append({"model": name, "not run": "no time left"})
            continue
        whole = random_vision.SHAPES[name]
        most = layers or (6 if device == "cpu" else 10**3)
        shape = random_vision.tiny(whole) if tiny else whole.of(most)
        number = count or (4 if tiny else COUNTS[device][name])
        pictures = list(random_vision.photos(number))
        made = {"model": name, "layers": f"{shape.layers} of {whole.layers}", "images": number}
        with TemporaryDirectory() as place, ExitStack() as stack:
            how = device, dtype, peak, vllm, stack
            for row in measure_shape(Path(place), shape, pictures, *how):
                rows.append(made | row)
                print(json.dumps(rows[-1]), flush=True)
    page = {**facts, "rows": rows, "ratios": ratios(rows)}
    page["seconds"] = round(time.monotonic() - start)
    measure.table(page["ratios"] or [{"model": "none"}])
    if output is None and not tiny:
        output = file_of(facts["device"], *(names or ()))
    if output:
        output.write_text(json.dumps(page, indent=1) + "\n")


if __name__ == "__main__":
    typer.run(main)
