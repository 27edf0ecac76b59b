"""Adapters that requests choose, stacked beside the kernels of one model (arXiv 2310.18547).

Every program computes with all slots of a stack, of which a token's number picks one or none: texts
with several adapters share a batch, and an adapter that comes or goes compiles nothing.
"""

import threading
from collections.abc import Mapping
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np

from jaxpool.engine.engine import EngineOptions
from jaxpool.engine.executor import Executor
from jaxpool.engine.sharding import leaf_sharding
from jaxpool.heads import adapted
from jaxpool.heads.steps import Dense
from jaxpool.nn import params as parameters
from jaxpool.nn.arch import Arch
from jaxpool.nn.params import flatten, unflatten
from jaxpool.tasks.task import Task

TRAINED = ("classify", "token_classify")  # tasks whose heads adapters bring
HEAD = ".adapters."  # in the names of what a head has for adapters


@dataclass(frozen=True)
class LoRARequest:
    """An adapter of a call, as vLLM names it: its name, a number that is not used, its folder."""

    lora_name: str
    lora_int_id: int
    lora_path: str


def with_slots(
    arch: Arch,
    params: dict,
    mesh: jax.sharding.Mesh,
    options: EngineOptions,
    tasks: Mapping[str, Task],
) -> tuple[Arch, dict]:
    """An architecture and its parameters with empty slots for adapters.

    They are of the layers' kernels, and of the linear layers of the heads of classifiers.
    """
    shared = arch.disentangled or arch.shared_layers
    beside = arch.vision or arch.decoder
    if arch.adapters or beside or shared or arch.experts or arch.mixer:
        raise ValueError(
            "enable_lora: not for models with pictures, decoders, experts, shared layers, or own "
            "adapters"
        )
    sizes = {"adapters": options.max_loras, "adapter_rank": options.max_lora_rank}
    arch = arch.replace(**sizes, adapter_scale=1.0)
    leaves = {
        name: leaf
        for name, leaf in flatten(parameters.abstract(arch)).items()
        if name.startswith("layers.") and ".lora_" in name
    }
    heads = (path.steps for name in TRAINED if name in tasks for path in tasks[name].paths)
    for step in (step for steps in heads for step in steps if isinstance(step, Dense)):
        for part, leaf in adapted.stacks(step, options.max_loras).items():
            leaves[f"heads.{step.name}{HEAD}{part}"] = leaf
    empty = {
        name: jax.device_put(jnp.zeros(leaf.shape, jnp.float32), leaf_sharding(leaf, mesh))
        for name, leaf in leaves.items()
    }
    return arch, unflatten(flatten(params) | empty)


class Loras:
    """The adapters that a model has now, by name; safe for threads."""

    def __init__(self, executor: Executor, checkpoint, options: EngineOptions):
        self._executor, self._checkpoint, self._options = executor, checkpoint, options
        self._slots: dict[str, tuple[int, str]] = {}  # number, from 1, and folder
        self._lock = threading.Lock()

    @property
    def names(self) -> tuple[str, ...]:
        """The adapters that are loaded."""
        return tuple(self._slots)

    def slot(self, asked: LoRARequest) -> int:
        """The number of an adapter, which is loaded if it is not there."""
        if not self._options.enable_lora:
            raise ValueError("lora_request needs enable_lora=True when the model is loaded")
        with self._lock:
            number, path = self._slots.get(asked.lora_name, (0, asked.lora_path))
            if path != asked.lora_path:
                raise ValueError(f"the adapter {asked.lora_name!r} is that of {path}")
            if not number:
                number = self._free(asked.lora_name)
                self._fill(number, asked.lora_path)
                self._slots[asked.lora_name] = (number, asked.lora_path)
            return number

    def remove(self, name: str) -> None:
        """Forget an adapter, whose slot another may take; KeyError for an unknown name."""
        with self._lock:
            del self._slots[name]

    def _free(self, name: str) -> int:
        most = self._options.max_loras
        taken = {number for number, _ in self._slots.values()}
        free = [number for number in range(1, most + 1) if number not in taken]
        if not free:
            raise ValueError(f"no room for the adapter {name!r}: max_loras={most} are loaded")
        return free[0]

    def _fill(self, number: int, path: str) -> None:
        """Write an adapter into its slot of every stack, zeros where it has nothing."""
        from converters.files.locate import resolve
        from converters.lora_factors import read_update

        flat = flatten(self._executor.params)
        heads = {name.replace(HEAD, "."): name for name in flat if HEAD in name}
        rank, slot = self._options.max_lora_rank, number - 1
        found = read_update(self._checkpoint, resolve(path), rank, heads.keys())
        changed = {
            name: _replaced(leaf, slot, found.layers.get(name.partition(".lora_")[0], {}), name)
            for name, leaf in flat.items()
            if ".lora_" in name
        }
        for leaf, name in heads.items():
            new = flat[name].at[slot].set(found.heads.get(leaf, 0))
            changed[name] = jax.device_put(new, flat[name].sharding)
        self._executor.params = unflatten(flat | changed)


def _replaced(stack: jax.Array, slot: int, layers: dict, name: str) -> jax.Array:
    """A stack `[L, q, ...]` with other factors in a slot; lower ranks are filled up with zeros."""
    new = np.zeros((stack.shape[0], *stack.shape[2:]), np.float32)
    for layer, (down, up) in layers.items():
        if ".lora_a." in name:
            new[layer, ..., : down.shape[-1]] = down
        else:
            new[layer, : len(up)] = up
    return jax.device_put(stack.at[:, slot].set(new), stack.sharding)
