"""A LoRA adapter as factors beside the kernels of its base, which is left as it is."""

from collections.abc import Collection, Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np

from converters import lora
from converters.files.tensors import Tensors, weight_files
from converters.report import CheckpointError
from converters.rows import Layout

Factors = dict[str, dict[int, tuple[np.ndarray, np.ndarray]]]
MERGE = "it can be merged at load, by lora_path"


class Update(NamedTuple):
    """What an adapter changes, in float32.

    layers: the factors of each kernel, `{module: {layer: (A [..., r], B [r, ...])}}`, with the axes
    of our kernels, to which their product is added; heads: what is added to leaves of heads.
    """

    layers: Factors
    heads: dict[str, np.ndarray]


def read_update(checkpoint, folder: Path, rank: int, heads: Collection[str]) -> Update:
    """What an adapter changes in the layers' kernels, and in those leaves of `heads`.

    CheckpointError for an adapter of a rank above `rank`, of another base, or with more than that
    (biases of layers, embeddings, DoRA, a head of another size).
    """
    if not (folder / lora.CONFIG).is_file():
        raise FileNotFoundError(f"no LoRA adapter in {folder}: it has no {lora.CONFIG}")
    part, family = checkpoint.parts[0], checkpoint.family
    merged = lora.Merged(part.source, folder, family.canonical, family.prefix)
    adapter = Tensors(weight_files(folder, lora.WEIGHTS), lora.module_name)
    places = {name: (layout, index) for layout in part.layouts for index, name in layout.names()}
    known = {name for name, (layout, _) in places.items() if {*layout.row.paths} <= {*heads}}
    if whole := merged.whole.keys() - known:
        raise CheckpointError(f"{folder}: it has whole tensors {sorted(whole)}; {MERGE}")
    found = Update({}, {})
    for name in known & (merged.whole.keys() | merged.deltas.keys()):
        layout, base = places[name][0], part.source[name].astype(np.float32)
        new = _trained(base, name, merged, adapter, folder)
        found.heads.update(zip(layout.row.paths, layout.read(new - base), strict=True))
    for name in merged.deltas.keys() & places.keys() - known:  # others are of no use here
        layout, index = places[name]
        delta = merged.deltas[name]
        if delta.magnitude or not _of_layers(layout):
            raise CheckpointError(f"{folder}: {name} is no plain kernel of a layer; {MERGE}")
        a, b = (adapter[factor].astype(np.float32) for factor in (delta.a, delta.b))
        if len(a) > rank:
            raise CheckpointError(f"{folder}: {name} has rank {len(a)}, above max_lora_rank={rank}")
        for module, *factors in _split(layout, a, delta.scale * b, delta.transposed):
            found.layers.setdefault(module, {})[index[0]] = (factors[0], factors[1])
    return found


def _trained(base: np.ndarray, name: str, merged: lora.Merged, adapter, folder: Path) -> np.ndarray:
    """A tensor of a head with an adapter, float32: replaced by it, updated, or both."""
    whole, delta = merged.whole.get(name), merged.deltas.get(name)
    new = base if whole is None else adapter[whole].astype(np.float32)
    if new.shape != base.shape:
        raise CheckpointError(f"{folder}: {name} wanted {base.shape}, found {new.shape}; {MERGE}")
    return new if delta is None else delta.merge(new, adapter)


def _of_layers(layout: Layout) -> bool:
    paths = layout.row.paths
    return all(path.startswith("layers.") and path.endswith(".kernel") for path in paths)


def _split(
    layout: Layout, a: np.ndarray, b: np.ndarray, transposed: bool
) -> Iterator[tuple[str, np.ndarray, np.ndarray]]:
    """The factors of each kernel that a tensor on disk holds, of its A `[r, in]` and B `[out, r]`.

    A layout moves elements about: it is asked where it puts the numbers of rows and of columns.
    """
    rows, columns = (np.arange(size) for size in layout.shape)
    outputs = layout.read(np.broadcast_to(rows[:, None], layout.shape))
    inputs = layout.read(np.broadcast_to(columns, layout.shape))
    if transposed:
        outputs, inputs = inputs, outputs
    for path, out, into in zip(layout.row.paths, outputs, inputs, strict=True):
        module = path.removesuffix(".kernel")
        taken = 2 if module.endswith(".out") else 1  # axes of the kernel that are its inputs
        first: tuple = (..., *(0,) * (into.ndim - taken))
        yield module, a.T[into[first]], np.moveaxis(b[out[(0,) * taken]], -1, 0)
