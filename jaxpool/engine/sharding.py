"""The device mesh, and where each axis letter goes on it."""

import jax
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from jaxpool.engine.devices import devices as all_devices
from jaxpool.nn.leaf import Leaf, is_leaf

MODEL_AXES = ("N", "K", "F", "W", "n", "p", "u", "x")  # split over "model"; all else is replicated


def make_mesh(model: int = 1, data: int | None = None, devices=None) -> Mesh:
    """A mesh `("data", "model")`; `data` defaults to all devices that are left.

    A run of several processes takes the devices of all: a process outside would have no part.
    """
    devices = all_devices() if devices is None else devices
    data = max(1, len(devices) // model) if data is None else data
    if data * model > len(devices):
        raise ValueError(
            f"A mesh of data_parallel_size={data} x tensor_parallel_size={model} needs "
            f"{data * model} devices, found {len(devices)} ({devices[0].platform})"
        )
    if jax.process_count() > 1 and data * model != len(devices):
        raise ValueError(
            f"{jax.process_count()} processes run on all their {len(devices)} devices, found "
            f"data_parallel_size={data} x tensor_parallel_size={model}"
        )
    return jax.make_mesh(
        (data, model),
        ("data", "model"),
        axis_types=(AxisType.Auto,) * 2,
        devices=devices[: data * model],
    )


def leaf_sharding(leaf: Leaf, mesh: Mesh) -> NamedSharding:
    """Split the first divisible head or mlp axis of a parameter; replicate the rest."""
    spec: list[str | None] = [None] * len(leaf.shape)
    for axis, (letter, size) in enumerate(zip(leaf.axes.split(), leaf.shape, strict=True)):
        if letter in MODEL_AXES and size % mesh.shape["model"] == 0:
            spec[axis] = "model"
            break
    return NamedSharding(mesh, PartitionSpec(*spec))


def tree_shardings(leaves: dict, mesh: Mesh) -> dict:
    """The sharding of every parameter of a tree of `Leaf`s."""
    return jax.tree.map(lambda leaf: leaf_sharding(leaf, mesh), leaves, is_leaf=is_leaf)


def rows_sharding(mesh: Mesh) -> NamedSharding:
    """Rows of a batch, split over "data"."""
    return NamedSharding(mesh, PartitionSpec("data"))


def replicated(mesh: Mesh) -> NamedSharding:
    """The same on every device."""
    return NamedSharding(mesh, PartitionSpec())


def output_sharding(mesh: Mesh) -> NamedSharding:
    """What comes out of a batch: rows split over "data", whole where a process cannot read all."""
    return replicated(mesh) if mesh.is_multi_process else rows_sharding(mesh)


def put(array: np.ndarray, sharding: NamedSharding) -> jax.Array:
    """A host array on its devices; of several processes that have it, each places its part."""
    if sharding.is_fully_addressable:
        return jax.device_put(array, sharding)
    return jax.make_array_from_callback(array.shape, sharding, lambda index: array[index])
