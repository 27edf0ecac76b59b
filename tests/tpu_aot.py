"""Compile real shapes for real TPU topologies, without a TPU (`make test-tpu-aot`, needs libtpu).

    python tests/tpu_aot.py [MODEL...] [--topology v5e:2x2] [--few] [--output FILE]

Not part of the test suite. For each model, topology and bucket: XLA's memory account, its cost
estimate, and the promise that no weight is gathered over the mesh. First come the smallest and
the largest bucket of everything (`--few`: those alone), then the others, cheapest first. What
compiled is remembered by the text of its program: a run that was interrupted goes on, and a
change compiles again what it touches.
"""

import hashlib
import json
import os
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Annotated, NamedTuple

import jax
import typer
from jax.experimental import topologies
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from jaxpool.engine.bucketing import BUCKETING
from jaxpool.engine.executor import Executor, memory
from tests.aot import MODELS, abstract, attention, every_shape, executor, keep, lower
from tests.weight_gathers import gathered_weights

TOPOLOGIES = ("v5e:2x2", "v6e:2x2", "v5p:2x2x1")
CACHE = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "jaxpool" / "tpu_aot"


class Bucket(NamedTuple):
    """What is compiled: one shape of a model on a topology."""

    model: str
    topology: str
    rows: int
    length: int


@cache
def mesh(topology: str, model: int) -> Mesh:
    """All chips of a topology, `model` of them on the model axis."""
    devices = topologies.get_topology_desc(platform="tpu", topology_name=topology).devices
    sizes = (len(devices) // model, model)
    types = (AxisType.Auto,) * 2
    return jax.make_mesh(sizes, ("data", "model"), axis_types=types, devices=devices)


def programs(bucket: Bucket, layers: int | None = None) -> Executor:
    """The programs that a bucket is one of."""
    return executor(bucket.model, mesh(bucket.topology, MODELS[bucket.model][2]), layers)


def buckets(models, topologies, few: bool) -> list[Bucket]:
    """Everything to compile: the smallest and largest buckets, then the rest by their cost."""
    ends, rest = [], []
    for model in models:
        split = MODELS[model][2]
        for topology in topologies:
            data = mesh(topology, split).shape["data"]
            these = every_shape(model, BUCKETING["tpu"], data)
            ends += [Bucket(model, topology, *these[i]) for i in (0, -1)]
            rest += [Bucket(model, topology, *shape) for shape in these[1:-1]]
    rest.sort(key=lambda b: b.rows * b.length * MODELS[b.model][0].dim)
    return ends if few else ends + rest


def facts(bucket: Bucket) -> dict:
    """XLA's account of a bucket; compiles it unless that was done before.

    XLA counts the body of the loop over the layers once, and nothing of a Pallas kernel. The
    estimate counts the body, which is what the program of one layer lacks, for all layers but the
    last, which has a place of its own; it leaves out what splash attention does. There is none for
    two loops, a tower's and a text's, none where layers differ, and none for a tower alone, whose
    last layer is in the loop, as all patches are pooled.
    """
    whole = programs(bucket)
    lowered = lower(whole, *bucket[2:])
    text = f"{lowered.as_text()} {bucket.topology} {jax.__version__} {version('libtpu')}"
    file = CACHE / f"{hashlib.sha256(text.encode()).hexdigest()}.json"
    if file.is_file():
        return json.loads(file.read_text())
    start = time.perf_counter()
    compiled = lowered.compile()
    seconds = time.perf_counter() - start
    once, last = compiled.cost_analysis(), {}
    alike = len(set(whole.arch.parts)) == 1
    if alike and not whole.arch.joins and not whole.arch.patches:
        last = lower(programs(bucket, 1), *bucket[2:]).compile().cost_analysis()
    layers, account = whole.arch.layers, memory(compiled)
    found = {"attention": attention(whole.arch, bucket.length), **account, "seconds": seconds}
    for name in ("flops", "optimal_seconds"):
        # An instruction without an estimate counts -1 s.
        known = last and min(last[name], once[name]) > 0
        found[name] = last[name] + (layers - 1) * (once[name] - last[name]) if known else -1
    found["gathered"] = gathered_weights(compiled.as_text(), whole.params)
    CACHE.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(found))
    return found


def attempt(bucket: Bucket) -> dict | str:
    """The facts of a bucket, or why it does not compile."""
    try:
        return facts(bucket)
    except jax.errors.JaxRuntimeError as error:
        return str(error).splitlines()[0]


def prove_detection(topology: str) -> None:
    """Compile layers that are badly spread over the chips, and see that the check complains."""
    arch, place = MODELS["BERT-base"][0].replace(layers=2, dtype="bfloat16"), mesh(topology, 2)

    def spread(leaf):
        kernel = leaf.axes.startswith("L") and len(leaf.shape) > 2
        return NamedSharding(place, PartitionSpec("model" if kernel else None))

    bad = Executor(abstract(arch, spread), arch, place)
    found = gathered_weights(lower(bad, 4, 16).compile().as_text(), bad.params)
    if not any("mlp.up.kernel" in line for line in found):
        raise SystemExit(f"{topology}: gathers of a bad sharding went unseen ({found})")
    print(f"{topology}: {len(found)} gathers of a bad sharding seen, as they should be", flush=True)


def milliseconds(found: dict) -> float | None:
    """XLA's estimate of the time; None where it has none for some instruction."""
    seconds = found["optimal_seconds"]
    return seconds * 1e3 if seconds > 0 else None


def teraflop(found: dict) -> float | None:
    """XLA's estimate of the work; None where it has none."""
    return found["flops"] / 1e12 if found["flops"] > 0 else None


def line(bucket: Bucket, found: dict) -> str:
    """One row of the table."""
    gib = {name: found[name] / 2**30 for name in ("argument", "temp", "output")}
    known = {"TFLOP": teraflop(found), "ms a chip": milliseconds(found)}
    each = (f"no {unit}" if x is None else f"{x:8.3f} {unit}" for unit, x in known.items())
    return (
        f"{bucket.model:21} {bucket.topology:9} {bucket.rows:4} x {bucket.length:<5}"
        f"{found['attention']:7} weights {gib['argument']:5.2f}, temporary {gib['temp']:5.2f},"
        f" output {gib['output']:5.3f} GiB, {', '.join(each)}, compiled in {found['seconds']:.1f} s"
    )


def summary(done: dict[Bucket, dict], wanted: list[Bucket]) -> Iterator[dict]:
    """Of each model on each topology: how many buckets, the most memory, the largest's time."""
    for model, topology in dict.fromkeys(bucket[:2] for bucket in wanted):
        mine = {b: found for b, found in done.items() if b[:2] == (model, topology)}
        if not mine:
            continue
        largest = max(mine, key=lambda b: (b.rows * b.length, b.length))
        found, place = mine[largest], mesh(topology, MODELS[model][2])
        yield {
            "model": model,
            "topology": topology,
            "data x model": "{data} x {model}".format(**place.shape),
            "compiled": len(mine),
            "buckets": len(every_shape(model, BUCKETING["tpu"], place.shape["data"])),
            "weights GiB": round(found["argument"] / 2**30, 3),
            "most temporary GiB": round(max(f["temp"] for f in mine.values()) / 2**30, 3),
            "largest": f"{largest.rows} x {largest.length}",
            "TFLOP a chip": (work := teraflop(found)) and round(work, 3),
            "estimated ms": (ms := milliseconds(found)) and round(ms, 2),
            "weights gathered": sum(len(f["gathered"]) for f in mine.values()),
        }


def main(
    models: Annotated[list[str] | None, typer.Argument(help=", ".join(MODELS))] = None,
    topology: Annotated[list[str] | None, typer.Option(help=", ".join(TOPOLOGIES))] = None,
    few: Annotated[bool, typer.Option("--few", help="First and last bucket only.")] = False,
    output: Annotated[Path | None, typer.Option(help="JSON; keeps other models' rows.")] = None,
):
    """Compile every bucket of models (default: all) for topologies (default: all)."""
    wanted = buckets(models or MODELS, topology or TOPOLOGIES, few)
    for name in dict.fromkeys(bucket.topology for bucket in wanted):
        prove_detection(name)
    done: dict[Bucket, dict] = {}
    bad: dict[Bucket, str] = {}
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        for bucket, found in zip(wanted, pool.map(attempt, wanted), strict=True):
            if isinstance(found, str):
                bad[bucket] = found
                print(bucket, found, flush=True)
                continue
            done[bucket] = found
            if found["gathered"]:
                bad[bucket] = f"weights are gathered: {found['gathered']}"
            print(f"{len(done):3}/{len(wanted)} {line(bucket, found)}", flush=True)
            if output:
                keep(output, list(summary(done, wanted)), libtpu=version("libtpu"))
    print("\n".join(json.dumps(row) for row in summary(done, wanted)))
    for bucket, error in bad.items():
        print(f"{bucket}: {error}")
    raise SystemExit(bool(bad))


if __name__ == "__main__":
    typer.run(main)
