"""Executables: one compiled program a shape and task, made ahead of time, cached and counted."""

import os
from collections.abc import Mapping
from pathlib import Path

import jax
import jax.numpy as jnp

from jaxpool import heads
from jaxpool.arch import Arch
from jaxpool.batch import Batch, Controls, segments_of
from jaxpool.sharding import rows_sharding
from jaxpool.transformer import forward


def enable_cache(folder: str | None = None) -> None:
    """Turn on JAX's persistent compilation cache, unless the user has set one.

    `JAXPOOL_CACHE` or `folder` names another place than ~/.cache/jaxpool; an empty string is off.
    """
    if jax.config.jax_compilation_cache_dir is not None:
        return
    default = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "jaxpool" / "xla"
    folder = os.environ.get("JAXPOOL_CACHE", str(default)) if folder is None else folder
    if folder:
        jax.config.update("jax_compilation_cache_dir", folder)
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
        jax.config.update("jax_persistent_cache_min_entry_size_bytes", 0)


def program(params: dict, batch: Batch, controls: Controls, arch: Arch, steps: tuple) -> jax.Array:
    """From token ids to the task's output: forward and head in one."""
    return heads.run(steps, params.get("heads", {}), forward(params, batch, arch), batch, controls)


class Executor:
    """Runs batches of one model; compiles a shape when it is first needed."""

    def __init__(self, params: dict, arch: Arch, mesh: jax.sharding.Mesh):
        self.params, self.arch, self.mesh = params, arch, mesh
        self.compilations = 0
        self._ready: dict[tuple, jax.stages.Compiled] = {}

    def compiled(self, steps: tuple, rows: int, length: int) -> jax.stages.Compiled:
        """The executable of a task at a shape."""
        key = (steps, rows, length)
        if key not in self._ready:
            self._ready[key] = self._compile(steps, rows, length)
            self.compilations += 1
        return self._ready[key]

    def _compile(self, steps: tuple, rows: int, length: int) -> jax.stages.Compiled:
        sharding = rows_sharding(self.mesh)
        tokens = jax.ShapeDtypeStruct((rows, length), jnp.int32, sharding=sharding)
        control = (rows, segments_of(length))
        batch = Batch(tokens, tokens, tokens, tokens if self.arch.token_types else None)
        controls = Controls(
            *(
                jax.ShapeDtypeStruct(control, dtype, sharding=sharding)
                for dtype in (jnp.int32, jnp.bool_, jnp.int32)
            )
        )
        jitted = jax.jit(program, static_argnums=(3, 4), out_shardings=sharding)
        return jitted.lower(self.params, batch, controls, self.arch, steps).compile()

    def __call__(self, steps: tuple, batch: Batch, controls: Controls) -> jax.Array:
        """Start one batch; the result is a future like every JAX array."""
        run = self.compiled(steps, *batch.tokens.shape)
        arrays = jax.device_put((batch, controls), rows_sharding(self.mesh))
        return run(self.params, *arrays)


def memory(compiled: jax.stages.Compiled) -> Mapping[str, int]:
    """XLA's own account of an executable, in bytes."""
    stats = compiled.memory_analysis()
    names = ("argument", "output", "temp", "generated_code")
    return {name: getattr(stats, f"{name}_size_in_bytes") for name in names}
