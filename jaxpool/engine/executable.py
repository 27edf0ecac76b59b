"""An executable of XLA's own format, called as what `jax.jit` compiled.

jax offers pickle for this, and reading a pickle runs the code that it names. All that jax puts
beside XLA's bytes is known where they are loaded, but what `Signature` says: that is JSON.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import numpy as np
from jax._src.interpreters import pxla
from jax._src.lib import xla_client
from jax._src.stages import ArgInfo
from jax.core import ShapedArray
from jax.sharding import Mesh, NamedSharding

NAME = "jit(programs)"  # in profiles and error messages


class Signature(NamedTuple):
    """What an executable takes and gives.

    kept: the flat arguments that it uses, by number; outputs: shape and dtype of each.
    """

    kept: Sequence[int]
    outputs: Sequence[tuple[Sequence[int], str]]


def dump(lowered: jax.stages.Lowered) -> tuple[bytes, Signature]:
    """Compile a program; XLA's bytes, and the signature to load them with."""
    compiled = lowered.compile()
    executable: Any = compiled.runtime_executable()
    outputs = [(x.shape, np.dtype(x.dtype).name) for x in jax.tree.leaves(lowered.out_info)]
    inner: Any = compiled._executable
    kept = sorted(inner._kept_var_idx)
    return executable.client.serialize_executable(executable), Signature(kept, outputs)


def load(
    content: bytes, signature: Signature, arguments: Any, mesh: Mesh, sharding: NamedSharding
) -> jax.stages.Compiled:
    """The executable of `dump`, to be called with arrays like `arguments` on a mesh.

    arguments: arrays or `jax.ShapeDtypeStruct`s, each with its sharding; sharding: of the outputs,
    a tuple.
    """
    leaves, tree = jax.tree.flatten((arguments, {}))
    avals = [ShapedArray(x.shape, x.dtype) for x in leaves]
    placed = [x.sharding for x in leaves]
    loaded = _loaded(content, signature, avals, placed, mesh, sharding).load()
    facts = jax.tree.unflatten(tree, [ArgInfo(aval, False) for aval in avals])
    outputs = jax.tree.structure((0,) * len(signature.outputs))
    return jax.stages.Compiled(loaded, [], facts, outputs)


def _loaded(content, signature, avals, placed, mesh, sharding) -> pxla.UnloadedMeshExecutable:
    """XLA's executable, with what jax knows of one that it has compiled."""
    client = mesh.devices.flat[0].client
    devices = xla_client.DeviceList(tuple(mesh.devices.flat))
    executable = client.deserialize_executable(content, executable_devices=devices)
    inputs, places = [avals[i] for i in signature.kept], [placed[i] for i in signature.kept]
    outputs = [ShapedArray(tuple(shape), np.dtype(kind)) for shape, kind in signature.outputs]
    free = [None] * len(inputs), [None] * len(outputs)  # layouts are XLA's to choose
    layouts = pxla._get_layouts_from_executable(executable, *free, 0, inputs, outputs)
    return pxla.UnloadedMeshExecutable(
        xla_executable=executable,
        device_list=devices,
        backend=client,
        input_avals=inputs,
        input_shardings=places,
        output_avals=outputs,
        output_shardings=[sharding] * len(outputs),
        committed=True,
        name=NAME,
        unordered_effects=[],
        ordered_effects=[],
        keepalive=[],
        host_callbacks=[],
        kept_var_idx=set(signature.kept),
        mut=None,
        xla_in_layouts=layouts[0],
        dispatch_in_layouts=pxla.get_dispatch_layouts(layouts[0], places, inputs),
        xla_out_layouts=layouts[1],
        all_args_info=None,
        pgle_profiler=None,
    )
