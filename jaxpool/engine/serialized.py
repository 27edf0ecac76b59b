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
from jax.experimental.compilation_cache import compilation_cache

from jaxpool.engine import executable
from jaxpool.engine.executable import Signature
from jaxpool.engine.executor import Executor, Key
from jaxpool.engine.folders import make_private, writers
from jaxpool.engine.remote import fetch, is_remote
from jaxpool.engine.sharding import output_sharding
from jaxpool.nn.params import flatten

MANIFEST, FIELDS = "executables.json", ("identity", "files")


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
    make_private(folder)

    def write(key: Key) -> Signature:
        content, signature = executable.dump(executor.lower(key))
        (folder / _name(key)).write_bytes(content)
        return signature

    with _without_cache(), ThreadPoolExecutor(os.cpu_count()) as pool:
        files = dict(sorted(zip(map(_name, keys), pool.map(write, keys), strict=True)))
    made = {"identity": identity(executor), "files": files}
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
    files: dict[str, list]


def find(folder: str | Path) -> Compiled:
    """What a folder of `jaxpool compile` holds; ValueError where it is none.

    Executables are machine code: those that others can write are refused. Of a URL it is a copy
    on this machine; who may write there is for its owner to say.
    """
    folder = fetch(str(folder)) if is_remote(folder) else Path(folder)
    if not (folder / MANIFEST).is_file():
        raise ValueError(f"{folder} has no {MANIFEST}: it is not an output of `jaxpool compile`")
    for path in (folder, *folder.iterdir()):
        if who := writers(path):
            raise ValueError(f"{path} is refused as code that {who} can write: chmod -R go-w it")
    found = json.loads((folder / MANIFEST).read_text())
    if not isinstance(found, dict) or not all(isinstance(found.get(x), dict) for x in FIELDS):
        raise ValueError(f"{folder / MANIFEST} is of another jaxpool: run `jaxpool compile` again")
    return Compiled(folder, *(found[name] for name in FIELDS))


def load(executor: Executor, made: Compiled, keys: Iterable[Key]) -> int:
    """Let `executor` load the executables that serve `keys` when needed; their number.

    ValueError where they were made for something else.
    """
    for name, wanted in identity(executor).items():
        if made.identity.get(name) != wanted:
            raise ValueError(
                f"{made.folder} was compiled for another {name}: {made.identity.get(name)!r}, "
                f"here it is {wanted!r}; run `jaxpool compile` again"
            )
    found = [key for key in keys if _name(key) in made.files]
    for key in found:
        executor.stored[key] = partial(_load, executor, key, made)
    return len(found)


def _load(executor: Executor, key: Key, made: Compiled) -> jax.stages.Compiled:
    name, mesh = _name(key), executor.mesh
    arguments = (executor.params, *executor.arguments(key))
    try:
        content, signature = (made.folder / name).read_bytes(), Signature(*made.files[name])
        return executable.load(content, signature, arguments, mesh, output_sharding(mesh))
    except (LookupError, TypeError) as error:
        raise ValueError(f"{made.folder / name} is damaged: run `jaxpool compile` again") from error
