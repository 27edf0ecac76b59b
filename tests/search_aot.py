"""Compile exact search for TPU topologies without a TPU (needs libtpu; see `make test-tpu-aot`).

JAX_PLATFORMS=cpu TPU_SKIP_MDS_QUERY=1 PYTHONPATH=. python tests/search_aot.py
"""

import jax
import jax.numpy as jnp
from jax.experimental import topologies
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from jaxpool.engine.executor import memory
from jaxpool.search import program

TOPOLOGIES = ("v5e:2x2", "v6e:2x2", "v5p:2x2x1")
QUERIES, ROWS, FEATURES, K = 1024, 131_072, 384, 10


def compiled(topology: str, score: str):
    """The program of a block of the corpus, over all chips of a topology."""
    devices = topologies.get_topology_desc(platform="tpu", topology_name=topology).devices
    mesh = Mesh(devices, (program.AXIS,), axis_types=(AxisType.Auto,))

    def of(shape, dtype, spec=None):
        sharding = NamedSharding(mesh, spec or PartitionSpec())
        return jax.ShapeDtypeStruct(shape, dtype, sharding=sharding)

    bits = score == "hamming"
    width, kind = (FEATURES // 8, jnp.uint8) if bits else (FEATURES, jnp.float32)
    best = program.Best(of((QUERIES, K), jnp.float32), of((QUERIES, K), jnp.int32))
    queries = of((QUERIES, FEATURES), jnp.float32)
    block = of((ROWS, width), kind, PartitionSpec(program.AXIS))
    number = of((), jnp.int32)
    options = {"tile": program.TILE, "score": score, "mesh": mesh}
    return program.search_block.lower(best, queries, block, number, number, **options).compile()


for topology in TOPOLOGIES:
    for score in ("cosine", "dot", "hamming"):
        account = memory(compiled(topology, score))
        mib = {name: round(account[name] / 2**20, 1) for name in ("argument", "temp", "output")}
        print(topology, score, "MiB a chip:", mib, flush=True)
