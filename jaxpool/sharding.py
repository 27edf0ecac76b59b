"""The device mesh, and where each axis letter goes on it."""

import jax
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from jaxpool.params import Leaf, is_leaf

MODEL_AXES = ("N", "K", "F")  # split over "model"; everything else is replicated


def make_mesh(model: int = 1, data: int | None = None, devices=None) -> Mesh:
    """A mesh `("data", "model")`; `data` defaults to all devices that are left."""
    devices = jax.devices() if devices is None else devices
    data = max(1, len(devices) // model) if data is None else data
    if data * model > len(devices):
        raise ValueError(
            f"A mesh of data_parallel_size={data} x tensor_parallel_size={model} needs "
            f"{data * model} devices, found {len(devices)} ({devices[0].platform})"
        )
    return jax.make_mesh(
        (data, model),
        ("data", "model"),
        axis_types=(AxisType.Auto,) * 2,
        devices=devices[: data * model],
    )


def leaf_sharding(leaf: Leaf, mesh: Mesh) -> NamedSharding:
    """Split the first divisible head or mlp axis of a parameter; replicate the rest."""
    spec = [None] * len(leaf.shape)
    for axis, (letter, size) in enumerate(zip(leaf.axes.split(), leaf.shape, strict=True)):
        if letter in MODEL_AXES and size % mesh.shape["model"] == 0:
            spec[axis] = "model"
            break
    return NamedSharding(mesh, PartitionSpec(*spec))


def tree_shardings(leaves: dict, mesh: Mesh) -> dict:
    """The sharding of every parameter of a tree of `Leaf`s."""
    return jax.tree.map(lambda leaf: leaf_sharding(leaf, mesh), leaves, is_leaf=is_leaf)


def rows_sharding(mesh: Mesh) -> NamedSharding:
    """Rows of a batch, and of what comes out of it, split over "data"."""
    return NamedSharding(mesh, PartitionSpec("data"))
