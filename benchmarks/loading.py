"""Time and memory of loading a checkpoint, against reading its file.

    python benchmarks/loading.py [--gigabytes 1.2] [--dtype float32]

Writes a BERT of random weights, then alternates: the file read in blocks, and the same bytes as
a parameter tree on the device, each with the file dropped from the page cache first (Linux).
"""

import json
import os
import statistics
import tempfile
import time
from pathlib import Path
from typing import Annotated

import jax
import numpy as np
import transformers
import typer
from safetensors.numpy import save_file

from benchmarks import measure
from converters import rows
from converters.checkpoint import open_checkpoint
from converters.families.bert import BERT
from jaxpool.nn import params

ROUNDS = 5
BLOCK = 16 << 20
LAYER_BYTES = 4 * 12_596_224  # of BERT-large in float32


def write_checkpoint(folder: Path, gigabytes: float) -> Path:
    """A float32 BERT as wide as BERT-large, with as many layers as fill the size; its file."""
    depth = max(1, round((gigabytes * 1e9 - 4 * 30522 * 1024) / LAYER_BYTES))
    config = transformers.BertConfig(
        hidden_size=1024, num_hidden_layers=depth, num_attention_heads=16, intermediate_size=4096
    )
    config.save_pretrained(folder)
    arch = BERT.arch(config)
    leaves = params.flatten(params.abstract(arch))
    noise = np.random.default_rng(0).standard_normal(30522 * 1024, np.float32)
    made = rows.layouts(rows.parse(BERT.names), leaves, arch.sizes())
    tensors = {
        name: noise[: np.prod(layout.shape)].reshape(layout.shape)
        for layout in made
        for _, name in layout.names()
    }
    file = folder / "model.safetensors"
    save_file(tensors, file, metadata={"format": "pt"})
    return file


def load(folder: Path, dtype: str) -> dict:
    """The checkpoint's parameters on the first device."""
    tree = open_checkpoint(folder).read(np.dtype(dtype), lambda path, array: jax.device_put(array))
    return jax.block_until_ready(tree)


def read_blocks(file: Path) -> None:
    """Every byte of a file, through one buffer."""
    buffer = bytearray(BLOCK)
    with open(file, "rb", buffering=0) as stream:
        while stream.readinto(buffer):
            pass


def drop_cache(file: Path) -> None:
    """Ask the system to forget the pages of a file."""
    with open(file, "rb") as stream:
        os.fsync(stream.fileno())
        os.posix_fadvise(stream.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def seconds(function, *args) -> float:
    """Wall time of a call."""
    start = time.perf_counter()
    function(*args)
    return time.perf_counter() - start


def memory(folder: str) -> dict[str, int]:
    """Bytes of a checkpoint's tree, of its largest leaf, and of what loading adds at its peak.

    The peak is that of the process (Linux): call this in a fresh one.
    """
    jax.block_until_ready(jax.device_put(np.zeros(1)))
    before = measure.resident("VmRSS")
    tree = load(Path(folder), "float32")
    sizes = [4 * params.count({"leaf": leaf}) for leaf in jax.tree.leaves(tree)]
    return {"tree": sum(sizes), "leaf": max(sizes), "added": measure.resident("VmHWM") - before}


def main(
    gigabytes: Annotated[float, typer.Option(help="size of the file")] = 1.2,
    dtype: Annotated[str, typer.Option(help="dtype of the parameters")] = "float32",
    cold: Annotated[bool, typer.Option(help="drop the page cache before each round")] = True,
) -> None:
    """Print one JSON line: seconds to read the file, to load it, and their ratio."""
    with tempfile.TemporaryDirectory() as folder:
        file = write_checkpoint(Path(folder), gigabytes)
        load(file.parent, dtype)
        times: dict[str, list[float]] = {"read": [], "load": []}
        for _ in range(ROUNDS):
            for name, call in (("read", (read_blocks, file)), ("load", (load, file.parent, dtype))):
                if cold:
                    drop_cache(file)
                times[name].append(seconds(*call))
        read, loaded = (statistics.median(values) for values in times.values())
        facts = {"bytes": file.stat().st_size, "dtype": dtype, "cold": cold}
        print(json.dumps(facts | {"read_s": read, "load_s": loaded, "ratio": loaded / read}))


if __name__ == "__main__":
    typer.run(main)
