"""Executables on disk: what `jaxpool compile` writes and a later start loads without compiling."""

import hashlib
import json
import os
import platform
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import NamedTuple

import jax
from jax.experimental import serialize_executable
from jax.experimental.compilation_cache import compilation_cache

from jaxpool.engine.executor import Executor, Key
from jaxpool.nn.params import flatten

MANIFEST = "executables.json"


def identity(executor: Executor) -> dict[str, str]:
    """What must be equal for an executable to be valid, by name."""
    device = executor.mesh.devices.flat[0]
    leaves = {name: (x.shape, str(x.dtype)) for name, x in flatten(executor.params).items()}
    return {
        "jax version": jax.__version__,
        "platform": f"{device.platform} {device.client.platform_version}",
        "device": f"{device.device_kind} {platform.machine()} {_features(device)}".strip(),
        "mesh": str(dict(executor.mesh.shape)),
        "architecture": repr(executor.arch),
        "parameters": _digest(repr(sorted(leaves.items()))),
    }


def _features(device) -> str:
    """A digest of the host's instruction sets, to which CPU programs are compiled."""
    info = Path("/proc/cpuinfo")
    if device.platform != "cpu" or not info.is_file():
        return ""
    lines = info.read_text().splitlines()
    return _digest(next((line for line in lines if line.startswith(("flags", "Features"))), ""))


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _name(key: Key) -> str:
    chains, rows, length = key
    return f"{_digest(repr(chains))}-{rows}x{length}.bin"


def save(executor: Executor, folder: Path, keys: Sequence[Key]) -> None:
    """Compile `keys`, in parallel, and write the executables into `folder`."""
    folder.mkdir(parents=True, exist_ok=True)

    def write(key: Key) -> None:
        payload, _, _ = serialize_executable.serialize(executor.lower(key).compile())
        (folder / _name(key)).write_bytes(payload)

    with _without_cache(), ThreadPoolExecutor(os.cpu_count()) as pool:
        list(pool.map(write, keys))
    made = {"identity": identity(executor), "files": sorted(map(_name, keys))}
    (folder / MANIFEST).write_text(json.dumps(made, indent=1))


@contextmanager
def _without_cache() -> Iterator[None]:
    """Keep JAX's cache out: on CPU, what comes out of it cannot be serialized again."""
    before = jax.config.values["jax_enable_compilation_cache"]
    jax.config.update("jax_enable_compilation_cache", False)
    compilation_cache.reset_cache()
    try:
        yield
    finally:
        jax.config.update("jax_enable_compilation_cache", before)
        compilation_cache.reset_cache()


class Compiled(NamedTuple):
    """What a folder of `jaxpool compile` holds, as its manifest says."""

    folder: Path
    identity: dict[str, str]
    files: list[str]


def find(folder: str | Path) -> Compiled:
    """What a folder of `jaxpool compile` holds; ValueError where it is none."""
    folder = Path(folder)
    if not (folder / MANIFEST).is_file():
        raise ValueError(f"{folder} has no {MANIFEST}: it is not an output of `jaxpool compile`")
    return Compiled(folder, **json.loads((folder / MANIFEST).read_text()))


def load(executor: Executor, made: Compiled, keys: Iterable[Key]) -> int:
    """Let `executor` load the executables that serve `keys` when needed; their number.

    ValueError where they were made for something else. Executables are machine code: load only
    folders you trust.
    """
    for name, wanted in identity(executor).items():
        if made.identity.get(name) != wanted:
            raise ValueError(
                f"{made.folder} was compiled for another {name}: {made.identity.get(name)!r}, "
                f"here it is {wanted!r}; run `jaxpool compile` again"
            )
    found = [key for key in keys if _name(key) in made.files]
    for key in found:
        executor.stored[key] = partial(_load, executor, key, made.folder / _name(key))
    return len(found)


def _load(executor: Executor, key: Key, file: Path) -> jax.stages.Compiled:
    arguments = (executor.params, *executor.arguments(key))
    inputs = jax.tree.structure((arguments, {}))
    outputs = jax.tree.structure((0,) * len(key[0]))
    devices = executor.mesh.devices.flatten().tolist()
    return serialize_executable.deserialize_and_load(
        file.read_bytes(), inputs, outputs, execution_devices=devices
    )
