"""A LoRA adapter as factors beside the kernels of its base, which is left as it is."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from converters import lora
from converters.files.tensors import Tensors, weight_files
from converters.report import CheckpointError
from converters.rows import Layout

Factors = dict[str, dict[int, tuple[np.ndarray, np.ndarray]]]
MERGE = "it can be merged at load, by lora_path"


def read_factors(checkpoint, folder: Path, rank: int) -> Factors:
    """The factors of the layers' kernels, float32: `{module: {layer: (A [..., r], B [r, ...])}}`.

    A and B have the axes of our kernels, and their product is a kernel's update. CheckpointError
    for an adapter of a rank above `rank`, of another base, or with more than updates of the layers'
    kernels (trained heads, biases, embeddings, DoRA).
    """
    if not (folder / lora.CONFIG).is_file():
        raise FileNotFoundError(f"no LoRA adapter in {folder}: it has no {lora.CONFIG}")
    part, family = checkpoint.parts[0], checkpoint.family
    merged = lora.Merged(part.source, folder, family.canonical, family.prefix)
    if merged.whole:
        raise CheckpointError(f"{folder}: it has whole tensors {sorted(merged.whole)}; {MERGE}")
    adapter = Tensors(weight_files(folder, lora.WEIGHTS), lora.module_name)
    places = {name: (layout, index) for layout in part.layouts for index, name in layout.names()}
    found: Factors = {}
    for name, delta in merged.deltas.items():
        layout, index = places.get(name, (None, ()))
        if layout is None:
            continue  # a tensor of the base that this model does not use
        if delta.magnitude or not _of_layers(layout):
            raise CheckpointError(f"{folder}: {name} is no plain kernel of a layer; {MERGE}")
        a, b = (adapter[factor].astype(np.float32) for factor in (delta.a, delta.b))
        if len(a) > rank:
            raise CheckpointError(f"{folder}: {name} has rank {len(a)}, above max_lora_rank={rank}")
        for module, *factors in _split(layout, a, delta.scale * b, delta.transposed):
            found.setdefault(module, {})[index[0]] = (factors[0], factors[1])
    return found


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
