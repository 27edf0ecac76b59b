"""Compile training steps of real shapes for TPU topologies, without a TPU (`make test-train-aot`).

    python tests/train_aot.py [CASE...] [--topology v5e:2x2] [--output FILE]

Not part of the test suite; needs libtpu. Parameters are float32, split over all chips (FSDP);
products are bfloat16. For each case and topology: XLA's memory account, which must fit, and the
promise that of the stacked weights no more than the layer that runs is gathered.
"""

import json
import math
import re
import time
from datetime import UTC, datetime
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
import typer
from jax.sharding import Mesh

from jaxpool.engine.batch import Batch, Controls, segments_of
from jaxpool.engine.executor import memory
from jaxpool.engine.sharding import replicated, rows_sharding
from jaxpool.heads.steps import Normalize, Pool
from jaxpool.nn import params as parameters
from jaxpool.nn.arch import Arch, Rotary
from jaxpool.nn.kernels import choose
from jaxpool.nn.leaf import is_leaf
from jaxpool.nn.params import flatten
from jaxpool.train.adapters import TRAINED, add_adapters
from jaxpool.train.objectives import objective
from jaxpool.train.optimizers import adamw, divided
from jaxpool.train.packing import TrainingBatch
from jaxpool.train.sharding import fsdp_sharding
from jaxpool.train.step import State, embed_rows, make_step
from tests.aot import MODELS
from tests.tpu_aot import mesh
from tests.weight_gathers import GATHERS, INSTRUCTION, SHAPE

MEMORY = {"v5e": 16, "v6e": 32, "tpu7x": 96}  # GiB of a chip
TOPOLOGIES = ("v5e:2x2", "v6e:2x2", "tpu7x:2x2x1")
TABLES = (Rotary(160_000.0, 64), Rotary(10_000.0, 64))
MODERNBERT = Arch(
    vocab=50368,
    layers=22,
    dim=768,
    heads=12,
    kv_heads=12,
    head_dim=64,
    mlp_dim=1152,
    embed_norm=True,
    norm_bias=False,
    placement="pre",
    first_attention_norm=False,
    final_norm=True,
    windows=tuple(0 if i % 3 == 0 else 64 for i in range(22)),
    rotary=TABLES,
    rotary_layers=tuple(int(i % 3 > 0) for i in range(22)),
    qkv_bias=False,
    out_bias=False,
    gated=True,
    mlp_bias=False,
)


class Case(NamedTuple):
    """A step: rows of `length` tokens with `pairs` pairs of texts, `chunk` rows at a time."""

    arch: Arch
    pairs: int
    rows: int
    length: int
    chunk: int | None = None
    lora: int = 0


CASES = {
    "BERT-base": Case(MODELS["BERT-base"][0], 256, 128, 512),
    "ModernBERT-base": Case(MODERNBERT, 256, 128, 512),
    "Qwen3-0.6B LoRA": Case(MODELS["Qwen3-Embedding-0.6B"][0], 64, 32, 512, lora=16),
    "BERT-base GradCache": Case(MODELS["BERT-base"][0], 4096, 2048, 512, chunk=128),
}


def shaped(tree: Any, sharding: Any) -> Any:
    """The shapes of a tree, on their devices."""
    return jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=sharding), tree)


def weights(case: Case, place: Mesh) -> tuple[dict, Arch]:
    """The shapes of all parameters, split over the chips, adapters on each of them."""

    def leaf_shape(leaf):
        sharding = fsdp_sharding(leaf, place)
        return jax.ShapeDtypeStruct(leaf.shape, jnp.float32, sharding=sharding)

    arch = case.arch.replace(dtype="bfloat16", max_length=512)
    arch = arch.replace(kernel=choose("tpu", arch))
    base = jax.tree.map(leaf_shape, parameters.abstract(arch), is_leaf=is_leaf)
    if not case.lora:
        return base, arch
    found = []

    def adapted(params: dict) -> dict:
        whole, changed = add_adapters(params, arch, ("query", "value"), case.lora, 16.0, key)
        found.append(changed)
        return {name: leaf for name, leaf in flatten(whole).items() if ".lora_" in name}

    key = jax.random.key(0)
    adapters = shaped(jax.eval_shape(adapted, base), replicated(place))
    return parameters.unflatten(flatten(base) | adapters), found[0]


def batch(case: Case, arch: Arch, place: Mesh) -> TrainingBatch:
    """The shapes of what a step reads."""
    rows, rest = rows_sharding(place), replicated(place)
    tokens = jax.ShapeDtypeStruct((case.rows, case.length), jnp.int32, sharding=rows)
    per_row = (case.rows, segments_of(case.length))
    number, switch = (
        jax.ShapeDtypeStruct(per_row, kind, sharding=rows) for kind in (jnp.int32, jnp.bool_)
    )
    types, adapters = (tokens if x else None for x in (arch.token_types, arch.adapters))
    where = jax.ShapeDtypeStruct((2, case.pairs), jnp.int32, sharding=rest)
    mask = jax.ShapeDtypeStruct((case.pairs,), jnp.bool_, sharding=rest)
    text = Batch(tokens, tokens, tokens, types, adapters)
    return TrainingBatch(text, Controls(number, switch, number), where, mask)


def compiled(case: Case, place: Mesh):
    """The program of a step, and the parameters that it reads."""
    params, arch = weights(case, place)
    trained, frozen = divided(params, TRAINED if case.lora else (".*",))
    optimizer = adamw(2e-5, 1000)
    slots = jax.eval_shape(optimizer.init, trained)
    as_parameter = lambda x, p: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=p.sharding)  # noqa: E731
    slots = optax.tree_utils.tree_map_params(
        optimizer,
        as_parameter,
        slots,
        trained,
        transform_non_params=lambda x: shaped(x, replicated(place)),
    )
    count = jax.ShapeDtypeStruct((), jnp.int32, sharding=replicated(place))
    state = State(trained, slots, count)
    steps = (Pool(("lasttoken" if arch.causal else "mean",)), Normalize())
    embed = partial(embed_rows, arch=arch, steps=steps, compute="bfloat16", remat="inputs")
    step = make_step(embed, objective("info_nce").call, optimizer, chunk=case.chunk)
    kept = jax.tree.map(lambda x: x.sharding, state)
    run = jax.jit(step, donate_argnums=0, out_shardings=(kept, replicated(place)))
    with jax.set_mesh(place):
        return run.lower(state, frozen, batch(case, arch, place)).compile(), params


def gathered_stacks(program: str, params: dict) -> list[str]:
    """The kernels of all layers that are gathered at once: "name: instruction" each."""
    sizes = {
        math.prod(leaf.shape): name
        for name, leaf in flatten(params).items()
        if name.startswith("layers.") and name.endswith("kernel") and len(leaf.shape) > 2
    }
    found = []
    for name, kind, opcode, _ in INSTRUCTION.findall(program):
        results = [math.prod(map(int, dims.split(","))) for dims in SHAPE.findall(kind) if dims]
        if opcode in GATHERS:
            found += [f"{sizes[size]}: %{name}" for size in results if size in sizes]
    return found


def facts(name: str, topology: str) -> dict:
    """One row of the table."""
    start = time.perf_counter()
    program, params = compiled(CASES[name], mesh(topology, 1))
    account, text = memory(program), program.as_text()
    gib = {part: account[part] / 2**30 for part in ("argument", "temp", "output")}
    case, chips = CASES[name], mesh(topology, 1).devices.size
    return {
        "case": name,
        "topology": topology,
        "pairs": case.pairs,
        "rows": f"{case.rows} x {case.length}",
        "chunk": case.chunk,
        "chips": chips,
        "state and batch GiB": round(gib["argument"], 3),
        "temporary GiB": round(gib["temp"], 3),
        "of memory": round((gib["argument"] + gib["temp"]) / MEMORY[topology.split(":")[0]], 3),
        "gathers": len(re.findall(r" all-gather(?:-start)?\(", text)),
        "stacks gathered": gathered_stacks(text, params),
        "compiled in s": round(time.perf_counter() - start, 1),
    }


def known(topology: str) -> bool:
    """Whether this libtpu compiles for a topology."""
    try:
        return mesh(topology, 1).devices.size > 0
    except Exception as error:
        print(f"{topology}: not known to libtpu {version('libtpu')} ({str(error)[:80]})")
        return False


def main(
    cases: Annotated[list[str] | None, typer.Argument(help=", ".join(CASES))] = None,
    topology: Annotated[list[str] | None, typer.Option(help=", ".join(TOPOLOGIES))] = None,
    output: Annotated[Path | None, typer.Option(help="JSON of the table.")] = None,
):
    """Compile every case for every topology that libtpu knows."""
    rows = []
    for each in filter(known, topology or TOPOLOGIES):
        for name in cases or CASES:
            rows.append(facts(name, each))
            print(json.dumps(rows[-1]), flush=True)
            page = {"date": datetime.now(UTC).strftime("%Y-%m-%d"), "jax": jax.__version__}
            page |= {"libtpu": version("libtpu"), "rows": rows}
            if output:
                output.write_text(json.dumps(page, indent=1) + "\n")
    bad = [row for row in rows if row["stacks gathered"] or row["of memory"] > 1]
    raise SystemExit(f"{len(bad)} steps do not fit, or gather whole stacks" if bad else 0)


if __name__ == "__main__":
    typer.run(main)
