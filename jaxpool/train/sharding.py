"""Parameters of a training run over the mesh: tensor parallel, and FSDP over the data axis."""

import jax
import numpy as np
from jax.experimental.multihost_utils import process_allgather
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from jaxpool.engine.sharding import MODEL_AXES, leaf_sharding
from jaxpool.nn.arch import PARTS
from jaxpool.nn.leaf import Leaf, is_leaf
from jaxpool.nn.params import flatten

LAYERS = ("L", *PARTS)  # a step of the scan takes one entry: splitting them would gather all


def fsdp_sharding(leaf: Leaf, mesh: Mesh) -> NamedSharding:
    """The tensor-parallel sharding, and the largest divisible axis left split over "data".

    Fully sharded data parallel (ZeRO-3, arXiv 1910.02054): a layer's weights are gathered where
    it runs, and its gradients are scattered back; optimizer state lies as its parameters do.
    """
    spec = list(leaf_sharding(leaf, mesh).spec)
    data = mesh.shape["data"]
    free = [
        (size, axis)
        for axis, (letter, size) in enumerate(zip(leaf.axes.split(), leaf.shape, strict=True))
        if spec[axis] is None and letter not in LAYERS and size % data == 0
    ]
    if free:
        spec[max(free)[1]] = "data"
    return NamedSharding(mesh, PartitionSpec(*spec))


def fsdp_shardings(leaves: dict, mesh: Mesh) -> dict:
    """The sharding of every parameter of a tree of `Leaf`s."""
    return jax.tree.map(lambda leaf: fsdp_sharding(leaf, mesh), leaves, is_leaf=is_leaf)


def check_mesh(leaves: dict, mesh: Mesh, fsdp: bool) -> None:
    """Raise ValueError where an axis of the mesh does not divide what it is to split.

    Serving keeps such parameters whole on every device. Here their gradients and optimizer state
    would be there as often, unseen. Key and value heads alone may be whole: they may be few.
    """
    for name, leaf in flatten(leaves).items():
        letters = leaf.axes.split()
        sizes = " x ".join(f"{x}={n}" for x, n in zip(letters, leaf.shape, strict=True))
        split = {*letters} & {*MODEL_AXES} - {"K"}
        if split and "model" not in leaf_sharding(leaf, mesh).spec:
            count = mesh.shape["model"]
            raise ValueError(
                f"model={count} wanted to divide {' or '.join(split)} of {name}: {sizes}"
            )
        kernel = {"D", "E"} & {*letters} and len({*letters} - {*LAYERS}) > 1
        if fsdp and kernel and "data" not in fsdp_sharding(leaf, mesh).spec:
            count = mesh.shape["data"]
            raise ValueError(f"fsdp over data={count} wanted to divide an axis of {name}: {sizes}")


def on_host(params: dict) -> dict:
    """The whole of every parameter in this process; with several, each must ask."""

    def whole(leaf: jax.Array) -> np.ndarray:
        here = leaf.is_fully_addressable or leaf.is_fully_replicated
        return np.asarray(leaf if here else process_allgather(leaf, tiled=True))

    return jax.tree.map(whole, params)
