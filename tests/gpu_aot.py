"""Compile real shapes for an H100, without a GPU (`make test-gpu-aot`, needs jax's CUDA plugin).

    python tests/gpu_aot.py [MODEL...] [--few] [--output FILE]

Not part of the test suite. For each model the smallest and the largest batch of each row length
(`--few`: the smallest of the shortest rows and the largest of the longest): XLA's memory account
and the bytes that a layer's kernels read and write. It fails where a program does not compile or
fit, where attention is not the kernel that the engine says, and where a product of a layer leaves
for memory in float32. Products are XLA's own kernels here: whether cuBLAS is faster, and whether
cuDNN takes the attention that it is given, only a GPU can tell.
"""

import json
import re
import time
from functools import cache
from itertools import groupby
from math import prod
from pathlib import Path
from typing import Annotated

import jax
import typer
from jax._src.cudnn import fused_attention_stablehlo
from jax.experimental import topologies
from jax.sharding import AxisType, Mesh

from jaxpool.engine import joined
from jaxpool.engine.bucketing import BUCKETING
from jaxpool.engine.executor import memory
from jaxpool.nn import delta
from jaxpool.nn.arch import Arch
from jaxpool.nn.kernels import backend
from jaxpool.nn.low_rank import Mamba
from jaxpool.nn.records import DeltaNet
from jaxpool.nn.sections import sections
from tests.aot import MODELS, attention, every_shape, executor, keep, lower

ONE_CHIP = [name for name, (*_, chips) in MODELS.items() if chips == 1]
CAPACITY = 80e9
# What XLA asks of a card; its repository keeps such facts as xla/backends/gpu/target_config/specs.
H100 = """
platform_name: "CUDA"
device_description_str: "NVIDIA H100 80GB HBM3"
dnn_version_info { major: 9 minor: 12 patch: 0 }
gpu_device_info {
  cuda_compute_capability { major: 9 feature_extension: ACCELERATED_FEATURES }
  core_count: 132 fpus_per_core: 128 clock_rate_ghz: 1.98
  threads_per_warp: 32 threads_per_block_limit: 1024 threads_per_core_limit: 2048
  registers_per_core_limit: 65536 registers_per_block_limit: 65536
  shared_memory_per_core: 233472 shared_memory_per_block: 49152
  shared_memory_per_block_optin: 232448
  block_dim_limit_x: 2147483647 block_dim_limit_y: 65535 block_dim_limit_z: 65535
  device_memory_size: 85000000000 memory_bandwidth: 3352000000000 l2_cache_size: 52428800
  driver_version: "13.0.0" runtime_version: "13.0.0" compile_time_toolkit_version: "13.0.0"
  dnn_version: "9.12.0"
}
"""
BYTES = {"pred": 1, "s8": 1, "u8": 1, "bf16": 2, "f32": 4, "s32": 4, "u32": 4, "c64": 8}
SMALL = 128  # tokens of a batch, for which XLA may split a product's sums
MARKS = {"flash": '"flash"', "cudnn": "__cudnn$fmha"}  # of a kernel, in a compiled program
NO_KERNEL = ("bitcast", "constant", "get-tuple-element", "parameter", "tuple")
NAME = r"%([\w.-]+)"


@cache
def mesh() -> Mesh:
    """One H100."""
    card = {"platform": "cuda", "target_config": H100, "topology": "1x1x1"}
    devices, types = topologies.get_topology_desc(**card).devices, (AxisType.Auto,) * 2
    return jax.make_mesh((1, 1), ("data", "model"), types, devices=devices)


def buckets(model: str) -> list[tuple[int, int]]:
    """The smallest and the largest `(rows, length)` of each length."""
    every = every_shape(model, BUCKETING["gpu"])
    each = [[*same] for _, same in groupby(every, lambda shape: shape[1])]
    return [shape for same in each for shape in dict.fromkeys((same[0], same[-1]))]


def size(shape: str) -> int:
    """Bytes of a shape as XLA writes it, `bf16[64,512]{1,0}` or a tuple of such."""
    found = re.findall(r"(\w+)\[([\d,]*)\]", shape)
    return sum(BYTES[kind] * prod(int(n) for n in dims.split(",") if n) for kind, dims in found)


def layer(text: str) -> list[tuple[str, str, list[str]]]:
    """The kernels of the loop over the layers: name, shape and the shapes of the operands.

    None where no two layers that follow one another are alike, and so are no loop; the longest of
    several, where there is a tower beside a text or another pattern of layers.
    """
    computations = {
        found[1]: part
        for part in text.split("\n\n")
        if (found := re.match(NAME, part.strip().removeprefix("ENTRY ")))
    }
    bodies = [computations[name] for name in re.findall(f"body={NAME}", text)]
    if not bodies:
        return []
    line = re.compile(rf"{NAME} = (\(.*?\)|\S+) ([\w-]+)\((.*?)\)")
    found = [line.search(one) for one in max(bodies, key=len).splitlines()[1:]]
    operations = [one.groups() for one in found if one]
    types = {name: shape for name, shape, *_ in operations}
    return [
        (name, shape, [types[operand] for operand in re.findall(NAME, operands)])
        for name, shape, kind, operands in operations
        if kind not in NO_KERNEL
    ]


def moved(kernels, arch: Arch, weights: dict) -> float:
    """Bytes read and written by a layer; of stacked weights, what is cut out of them."""
    looped = [len(part.kinds) for part in sections(arch.parts[:-1]) if part.times > 1]
    stacks = {(leaf.shape[0], leaf.size) for leaf in jax.tree.leaves(weights)}

    def stacked(shape: str) -> bool:
        sizes = [int(n) for n in re.findall(r"\d+", shape.partition("[")[2].partition("]")[0])]
        return bool(sizes) and (sizes[0], prod(sizes)) in stacks

    read = [shape for *_, operands in kernels for shape in operands if not stacked(shape)]
    return sum(map(size, [shape for _, shape, _ in kernels] + read)) / max(looped, default=1)


def exact(arch: Arch, tokens: int, shape: str, operands: list[str]) -> bool:
    """Whether a product stays in float32 by its definition: of a router and of two mixers."""
    if f"[{tokens},{arch.experts}]" in shape:
        return True
    if isinstance(arch.mixer, Mamba):  # the steps
        return any(f"{arch.mixer.rank},{arch.mixer.width}]" in operand for operand in operands)
    blocks = f"[{tokens},{delta.SMALL},{delta.SMALL}]"  # of the matrix that is inverted
    return isinstance(arch.mixer, DeltaNet) and blocks in shape


def check(model: str, rows: int, length: int) -> dict:
    """The facts of a program; ValueError where it is not as it should be."""
    programs = executor(model, mesh())
    start = time.perf_counter()
    compiled = lower(programs, rows, length).compile()
    seconds = time.perf_counter() - start
    arch, patches = programs.arch, length * (joined.weight(programs.arch) - 1)
    text, kernel, account = compiled.as_text(), attention(arch, length), memory(compiled)
    found = {name for name, mark in MARKS.items() if mark in text}
    wanted = {kernel} | ({backend(arch.vision, patches)} if arch.vision else set())
    if found != wanted & MARKS.keys():
        raise ValueError(f"attention should be {kernel}, found {', '.join(found) or 'XLA'}")
    if account["argument"] + account["temp"] + account["output"] > CAPACITY:
        raise ValueError(f"does not fit: {account}")
    kernels = layer(text)
    starts = tuple(f"f32[{size}," for size in (rows * length, rows * patches))
    wide = [
        name
        for name, shape, operands in kernels
        if shape.startswith(starts) and not exact(arch, rows * length, shape, operands)
    ]
    if wide and rows * length > SMALL:
        raise ValueError(f"products in float32: {', '.join(wide)}")
    gib = {name: round(account[name] / 2**30, 3) for name in ("argument", "temp")}
    row = {"model": model, "rows": rows, "length": length, "attention": kernel, "GiB": gib}
    row["MB moved a layer"] = round(moved(kernels, arch, programs.params) / 1e6, 1)
    return row | {"seconds": round(seconds, 1)}


def main(
    models: Annotated[list[str] | None, typer.Argument(help=", ".join(ONE_CHIP))] = None,
    few: Annotated[bool, typer.Option("--few", help="First and last bucket only.")] = False,
    output: Annotated[Path | None, typer.Option(help="JSON; keeps other models' rows.")] = None,
):
    """Compile the ends of every row length of models (default: those of one chip)."""
    # jax asks the libraries of this machine, which has no need of cuDNN.
    fused_attention_stablehlo.check_cudnn_version = lambda: 91200
    done, bad = [], []
    for model in models or ONE_CHIP:
        wanted = buckets(model)
        for shape in (wanted[0], wanted[-1]) if few else wanted:
            try:
                done.append(check(model, *shape))
                print(json.dumps(done[-1]), flush=True)
            except (ValueError, jax.errors.JaxRuntimeError) as error:
                bad.append(f"{model} {shape}: {str(error).splitlines()[0]}")
                print(bad[-1], flush=True)
    if output:
        keep(output, done)
    raise SystemExit(bool(bad))


if __name__ == "__main__":
    typer.run(main)
