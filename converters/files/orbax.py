"""Orbax folders: the parameter tree as it stands on devices, beside the checkpoint's own files.

OUT/params/        the tree, restored shard by shard
OUT/tensors.json   the names, shapes and dtypes of the checkpoint it came from, for export
OUT/unused.safetensors   tensors of it that no task reads, if any, for export
OUT/config.json, tokenizer.json, modules.json, ...
"""

import json
from pathlib import Path

import jax

from converters.checkpoint import Checkpoint
from converters.files.folder import MANIFEST
from converters.unused import save_unused

PARAMS = "params"


def is_orbax(folder: Path) -> bool:
    """Whether a checkpoint folder holds its parameters as an Orbax tree."""
    return (folder / PARAMS).is_dir()


def save(checkpoint: Checkpoint, folder: Path) -> None:
    """Write a checkpoint as an Orbax folder, each tensor in the dtype it has on disk."""
    from orbax.checkpoint import StandardCheckpointer

    tree = checkpoint.read(None, lambda path, array: array)
    checkpoint.copy_companions(folder)
    save_unused(checkpoint.unused(), folder)
    manifest = {part.path: part.source.describe() for part in checkpoint.parts}
    (folder / MANIFEST).write_text(json.dumps(manifest))
    with StandardCheckpointer() as checkpointer:
        checkpointer.save((folder / PARAMS).absolute(), tree, force=True)


def restore(folder: Path, leaves: dict, dtype, shardings: dict) -> dict:
    """The parameter tree, each process and device reading its own shards."""
    from orbax.checkpoint import StandardCheckpointer

    from jaxpool.nn.leaf import is_leaf

    target = jax.tree.map(
        lambda leaf, place: jax.ShapeDtypeStruct(leaf.shape, dtype, sharding=place),
        leaves,
        shardings,
        is_leaf=is_leaf,
    )
    with StandardCheckpointer() as checkpointer:
        return checkpointer.restore((folder / PARAMS).absolute(), target)


def read(checkpoint: Checkpoint) -> dict:
    """The parameters of any checkpoint folder as NumPy arrays in the dtype they have on disk."""
    from orbax.checkpoint import StandardCheckpointer

    if not is_orbax(checkpoint.folder):
        return checkpoint.read(None, lambda path, array: array)
    with StandardCheckpointer() as checkpointer:
        return checkpointer.restore((checkpoint.folder / PARAMS).absolute())
