"""Which parameters a compiled program moves over the mesh, read from its HLO text."""

import math
import re
from collections import defaultdict

from jaxpool.nn.params import flatten

INSTRUCTION = re.compile(r"%([\w.\-]+) = (.+?) ([a-z][\w\-]*)\(([^)]*)", re.MULTILINE)
SHAPE = re.compile(r"\b[a-z]\w*\[([\d,]*)\]")
GATHERS = ("all-gather", "all-gather-start")
MOVES = (*GATHERS, "all-to-all", "collective-permute", "collective-permute-start")


def gathered_weights(program: str, params: dict) -> list[str]:
    """The kernels that are gathered or exchanged, "name: instruction" each; none by design.

    Shapes are compared as numbers of elements, since XLA transposes, reshapes and converts before
    it gathers: an instruction counts whose operand has the size of a kernel's shard, or whose
    result has that of the whole kernel; of the stacked layers, or of one inside their loop.

    program: `Compiled.as_text()`; params: arrays, or shapes, with their shardings.
    """
    shards, wholes = _kernel_sizes(params)
    sizes, moves = {}, []
    for name, kind, opcode, operands in INSTRUCTION.findall(program):
        shapes = SHAPE.findall(kind)
        sizes[name] = [math.prod(map(int, dims.split(","))) if dims else 1 for dims in shapes]
        if opcode in MOVES:
            moves.append((name, opcode, re.findall(r"%([\w.\-]+)", operands)))
    found = []
    for name, opcode, operands in moves:
        taken = [shards[size] for operand in operands for size in sizes[operand]]
        if opcode in GATHERS:
            taken += [wholes[size] for size in sizes[name]]
        found += [f"{kernel}: %{name}" for kernel in sorted(set().union(*taken))]
    return found


def _kernel_sizes(params: dict) -> tuple[dict[int, set[str]], dict[int, set[str]]]:
    """Names of the kernels that are split over the mesh, by elements of a shard and of all."""
    shards, wholes = defaultdict(set), defaultdict(set)
    for path, leaf in flatten(params).items():
        shard = leaf.sharding.shard_shape(leaf.shape)
        if not path.endswith("kernel") or shard == leaf.shape:
            continue
        stacked = path.startswith("layers.")
        for first in (0, 1) if stacked else (0,):
            shards[math.prod(shard[first:])].add(path)
            wholes[math.prod(leaf.shape[first:])].add(path)
    return shards, wholes
