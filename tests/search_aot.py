"""Compile exact search for TPU topologies and an H100, without either.

    python tests/search_aot.py [tpu|gpu] [--output FILE]

`make test-tpu-aot` and `make test-gpu-aot` run it: the blocks of every score over all chips of a
topology, and the screening that comes before them on one device.
"""

import json
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import jax
import jax.numpy as jnp
import typer
from jax.experimental import topologies
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from jaxpool.engine.executor import memory
from jaxpool.search import late_interaction, program, screen
from tests import gpu_aot

TOPOLOGIES = ("v5e:2x2", "v6e:2x2", "v5p:2x2x1")
QUERIES, ROWS, FEATURES, K = 1024, 131_072, 384, 10
ASKED, TOKENS, DOCUMENTS, DIM = 32, 256, 512, 128  # of late interaction, 64 queries of 32 tokens
ROW, WHOLE = PartitionSpec(program.AXIS), PartitionSpec()


def meshes(platform: str) -> Iterator[tuple[str, Mesh]]:
    """Names of topologies, and all their chips as one axis."""
    chips = {"H100": gpu_aot.mesh().devices.ravel()} if platform == "gpu" else {}
    for name in TOPOLOGIES if platform == "tpu" else ():
        chips[name] = topologies.get_topology_desc(platform="tpu", topology_name=name).devices
    for name, devices in chips.items():
        yield name, Mesh(devices, (program.AXIS,), axis_types=(AxisType.Auto,))


def lowered(mesh: Mesh) -> Iterator[tuple[str, Any]]:
    """The programs of a block of the corpus, by their names."""

    def of(shape, dtype: Any = jnp.float32, spec: PartitionSpec = WHOLE):
        return jax.ShapeDtypeStruct(shape, dtype, sharding=NamedSharding(mesh, spec))

    number, queries = of((), jnp.int32), of((QUERIES, FEATURES))
    for score in ("cosine", "dot", "hamming"):
        best = program.Best(of((QUERIES, K)), of((QUERIES, K), jnp.int32))
        bits = score == "hamming"
        width, kind = (FEATURES // 8, jnp.uint8) if bits else (FEATURES, jnp.float32)
        options = {"tile": program.TILE, "score": score, "mesh": mesh}
        given = (best, queries, of((ROWS, width), kind, ROW), number, number)
        yield score, program.search_block.lower(*given, **options)
    options = {"tile": program.TILE, "score": "cosine"}
    yield "screen", screen.group_bounds.lower(queries, of((ROWS, FEATURES)), number, **options)
    block = late_interaction.Block
    asked = block(of((64, ASKED, DIM)), of((64,), jnp.int32), of((64,), jnp.int32))
    count = DOCUMENTS * mesh.size
    lengths, rows = (of((count,), jnp.int32, ROW) for _ in range(2))
    documents = block(of((count, TOKENS, DIM), jnp.float16, ROW), lengths, rows)
    best = program.Best(of((64, K)), of((64, K), jnp.int32))
    options = {"tile": 32, "mesh": mesh}
    yield "maxsim", late_interaction.search_block.lower(best, asked, documents, **options)


def main(
    platform: Annotated[str, typer.Argument(help="tpu or gpu.")] = "tpu",
    output: Annotated[Path | None, typer.Option(help="JSON of all facts.")] = None,
):
    """Compile every program and print XLA's account of its memory."""
    done = []
    for name, mesh in meshes(platform):
        for score, program_ in lowered(mesh):
            begun = time.perf_counter()
            account = memory(program_.compile())
            row: dict = {"topology": name, "program": score}
            kinds = ("argument", "temp", "output")
            row["MiB a chip"] = {kind: round(account[kind] / 2**20, 1) for kind in kinds}
            done.append(row | {"seconds": round(time.perf_counter() - begun, 1)})
            print(json.dumps(done[-1]), flush=True)
    if output:
        day = datetime.now(UTC).strftime("%Y-%m-%d")
        facts = {"date": day, "jax": jax.__version__, "rows": done}
        output.write_text(json.dumps(facts, indent=1) + "\n")


if __name__ == "__main__":
    typer.run(main)
