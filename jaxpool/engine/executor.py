"""Executables: one for each program and shape, compiled ahead of time, cached and counted."""

import os
import threading
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp

from jaxpool.engine import joined
from jaxpool.engine.batch import CONTROLS, Batch, Controls, chunks_of, segments_of, slots_of
from jaxpool.engine.chunks import Chunks
from jaxpool.engine.sharding import output_sharding, put, replicated, rows_sharding
from jaxpool.heads import queries
from jaxpool.heads.decoded import reads_memory
from jaxpool.heads.spans import reads_words
from jaxpool.heads.steps import Chains, compared, picked, pools_chunks, pools_slots
from jaxpool.heads.steps import run as run_steps
from jaxpool.nn.arch import Arch
from jaxpool.nn.decoder import Memory
from jaxpool.nn.stacked import as_bits
from jaxpool.nn.transformer import forward

Key = tuple[Chains, int, int]  # chains, rows, length


def programs(params, batch: Batch, controls: Controls, arch: Arch, chains: Chains) -> tuple:
    """From token ids to the outputs of several chains of steps, all from one forward."""
    kept = picked(chains, batch, controls)
    hidden, weights = forward(params, batch, arch, kept=kept), params.get("heads", {})
    run = partial(run_steps, pooled=kept is not None)
    return tuple(run(steps, weights, hidden, batch, controls) for steps in chains)


def precise(arch: Arch):
    """The context in which a float32 model's products are float32 on every platform.

    TPUs and GPUs would otherwise round the operands; a `jax_default_matmul_precision` that the user
    has set is kept.
    """
    whole = "highest" if arch.dtype == "float32" else None
    return jax.default_matmul_precision(jax.config.values["jax_default_matmul_precision"] or whole)


class Executor:
    """Runs the programs of one model. Safe for threads.

    Each is compiled when it is first needed. context: batches have a `context` (see `Batch`);
    packed: a row may hold several requests, not where each picture fills one; compilations: how
    many programs were compiled; frozen: compiling a further one is an error; stored: how to load
    those compiled elsewhere; tell: called with what the device is about to compile (a key), or to
    run (its chains, batch and controls), for other processes to do the same.
    """

    def __init__(
        self,
        params: dict,
        arch: Arch,
        mesh: jax.sharding.Mesh,
        context: bool = False,
        packed: bool = True,
    ):
        if mesh.devices.flat[0].platform == "cpu" and arch.layers:
            params = _as_bits(params)
        self.params, self.arch, self.mesh = params, arch, mesh
        self.context, self.packed = context, packed
        self.compilations, self.frozen = 0, False
        self.stored: dict[Key, Callable[[], jax.stages.Compiled]] = {}
        self.tell: Callable[..., None] = lambda *order: None
        self._ready: dict[Key, Future] = {}
        self._arguments: dict[Key, tuple[Batch, Controls]] = {}  # asked for with every batch
        self._lock = threading.Lock()

    def compiled(self, key: Key) -> jax.stages.Compiled:
        """The executable of some chains at a shape."""
        if key not in self._ready:
            self.tell(key)
        with self._lock:
            make_here = key not in self._ready
            future = self._ready.setdefault(key, Future())
        if make_here:
            self._make(key, future)
        return future.result()

    def _make(self, key: Key, future: Future) -> None:
        name = f"A batch of {key[1]} x {key[2]} tokens"
        load = self.stored.get(key, partial(self._compile, key, name))
        try:
            compiled = load()
            check_memory(compiled, name, self.mesh)
        except BaseException as error:
            del self._ready[key]
            future.set_exception(error)
        else:
            future.set_result(compiled)

    def _compile(self, key: Key, name: str) -> jax.stages.Compiled:
        if self.frozen:
            ready = sorted(str(k[1:]) for k in (self._ready | self.stored) if k != key)
            raise RuntimeError(
                f"{name} has no executable and compiling is off (forbid_compiles); "
                f"ready: {', '.join(ready)}"
            )
        compiled = self.lower(key).compile()
        with self._lock:
            self.compilations += 1
        return compiled

    def lower(self, key: Key) -> jax.stages.Lowered:
        """The program of a key, traced for this mesh."""
        chains = key[0]
        sharding = output_sharding(self.mesh)
        # A new function object: jit would reuse an executable that came out of the cache on disk,
        # which cannot be serialized again on CPU.
        jitted = jax.jit(partial(programs), static_argnums=(3, 4), out_shardings=sharding)
        with jax.set_mesh(self.mesh), precise(self.arch):
            return jitted.lower(self.params, *self.arguments(key), self.arch, chains)

    def arguments(self, key: Key) -> tuple[Batch, Controls]:
        """The abstract batch and controls of a key."""
        if key not in self._arguments:
            self._arguments[key] = self._abstract(*key)
        return self._arguments[key]

    def _abstract(self, chains: Chains, rows: int, length: int) -> tuple[Batch, Controls]:
        batch, sharding = self._batch(rows, length), rows_sharding(self.mesh)
        if reads_memory(chains):
            shape = (rows, length, self.arch.dim)
            vectors = jax.ShapeDtypeStruct(shape, jnp.float32, sharding=sharding)
            batch = batch._replace(memory=Memory(vectors, batch.segments))
        places = (rows, self.segments(length))
        controls = {
            name: jax.ShapeDtypeStruct(places, kind, sharding=sharding)
            for name, (kind, _) in CONTROLS.items()
        }
        compared = self._queries(chains, *places, length)
        chunk = jax.ShapeDtypeStruct((rows, chunks_of(length)), jnp.int32, sharding=sharding)
        chunks = Chunks(chunk, chunk, chunk) if pools_chunks(chains) else None
        slots = self._slots(rows, length) if pools_slots(chains) else None
        words = batch.segments if reads_words(chains) else None
        made = Controls(**controls, queries=compared, chunks=chunks, slots=slots, words=words)
        return batch, made

    def segments(self, length: int) -> int:
        """How many requests a row of `length` can hold."""
        return segments_of(length) if self.packed else 1

    def _slots(self, rows: int, length: int) -> jax.ShapeDtypeStruct:
        count = slots_of(rows, length, self.mesh.shape["data"])
        return jax.ShapeDtypeStruct((count,), jnp.int32, sharding=replicated(self.mesh))

    def _batch(self, rows: int, length: int) -> Batch:
        """The abstract batch of a shape: tokens, or the patches of pictures."""
        arch = self.arch
        make = partial(jax.ShapeDtypeStruct, sharding=rows_sharding(self.mesh))
        tokens = make((rows, length), jnp.int32)
        if patches := arch.patches:
            pixels = make((rows, length, patches.values), jnp.dtype(patches.dtype))
            grid = make((rows, length, 4), jnp.int32) if arch.gridded else None
            return Batch(None, tokens, tokens, pixels=pixels, grid=grid)
        types = tokens if arch.reads_types else None
        adapters = tokens if arch.adapters else None
        text = Batch(tokens, tokens, tokens, types, adapters, tokens if self.context else None)
        return self._with_patches(text, make) if arch.joins else text

    def _with_patches(self, text: Batch, make) -> Batch:
        """The abstract batch of texts with pictures among their tokens."""
        vision: Any = self.arch.vision
        rows, length = text.tokens.shape
        slots = (rows, length * (joined.weight(self.arch) - 1))
        return text._replace(
            pixels=make((*slots, vision.patches.values), jnp.dtype(vision.patches.dtype)),
            grid=make((*slots, 4), jnp.int32),
            images=make(slots, jnp.int32),
            soft=text.tokens,
            coordinates=make((rows, length, 3), jnp.int32) if self.arch.axes > 1 else None,
        )

    def _queries(self, chains: Chains, rows: int, segments: int, length: int):
        """The abstract queries of chains that compare with some."""
        if not (features := compared(chains, self.arch.dim)):
            return None
        by_row, whole = rows_sharding(self.mesh), replicated(self.mesh)
        return jax.tree.map(
            lambda x, sharding: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=sharding),
            queries.empty(rows, segments, length, features),
            queries.Queries(whole, whole, whole, by_row, by_row),
        )

    def __call__(self, chains: Chains, batch: Batch, controls: Controls) -> tuple[jax.Array, ...]:
        """Dispatch one batch; the outputs are JAX arrays, computed asynchronously.

        NumPy arrays are passed as they are: the executable places them by its own shardings in a
        third of the time that a `device_put` of each takes. With several processes each array is
        placed explicitly, since a process holds only its part.
        """
        self.tell(chains, batch, controls)
        key = (chains, *batch.segments.shape)
        if self.mesh.is_multi_process:
            batch, controls = jax.tree.map(
                lambda array, abstract: put(array, abstract.sharding),
                (batch, controls),
                self.arguments(key),
            )
        return self.compiled(key)(self.params, batch, controls)


def _as_bits(params: dict) -> dict:
    """Parameters with the layers of a text model, and of what stands beside it, as bits."""
    beside = {n: _as_bits(params[n]) for n in ("vision", "decoder") if n in params}
    return params | {"layers": as_bits(params["layers"])} | beside


def memory(compiled: jax.stages.Compiled) -> Mapping[str, int]:
    """XLA's own account of an executable, in bytes."""
    stats = compiled.memory_analysis()
    names = ("argument", "output", "temp", "generated_code")
    return {name: getattr(stats, f"{name}_size_in_bytes") for name in names}


def free_memory(device: jax.Device) -> int:
    """Bytes a device can still give."""
    stats = device.memory_stats()
    if stats and "bytes_limit" in stats:
        return stats["bytes_limit"] - stats["bytes_in_use"]
    return os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


def check_memory(compiled, name: str, mesh: jax.sharding.Mesh) -> None:
    """Refuse an executable that would not fit beside the weights (MemoryError)."""
    account = memory(compiled)
    need = account["temp"] + account["output"]
    free = free_memory(mesh.local_devices[0])
    if need > free:
        raise MemoryError(
            f"{name} needs {need / 2**30:.2f} GiB a device "
            f"beside the weights, {free / 2**30:.2f} GiB are free; lower max_num_batched_tokens "
            "or max_model_len"
        )
