"""Processes that prepare the requests of large calls, while this one computes on others."""

import weakref
from collections.abc import Mapping, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from functools import cached_property
from multiprocessing import get_context
from typing import Any

from jaxpool import offline
from jaxpool.text.packed import pack, unpack
from jaxpool.text.prepared import Prepared

LARGE = 4096  # prompts of a call, or of a window of it, that are worth the way to other processes
_described: Any = None  # the model of a process that prepares


class Tokenizers:
    """`count` processes, each with the files of a model but neither its weights nor a device.

    They start with the first large call; 0: all is prepared here. asked: the arguments of
    `loading.describe`, which the model was loaded with.
    """

    def __init__(self, count: int, model: str, asked: Mapping[str, Any]):
        if count < 0:
            raise ValueError(f"tokenizer_workers must not be negative, got {count}")
        self.count, self.model, self.asked = count, model, dict(asked)

    @cached_property
    def pool(self) -> ProcessPoolExecutor:
        """The processes, which end with this object."""
        made = ProcessPoolExecutor(
            self.count, get_context("spawn"), initializer=_open, initargs=(self.model, self.asked)
        )
        weakref.finalize(self, made.shutdown, wait=False)
        return made

    def prepare(
        self, model, task, prompts: list, params: Any = None, **options: Any
    ) -> list[Prepared]:
        """What `offline.prepare` makes of these prompts; few, and pictures, are prepared here."""
        few = not self.count or len(prompts) < LARGE
        if few or not all(isinstance(prompt, str | list) for prompt in prompts):
            return offline.prepare(model, task, prompts, params, **options)
        parts: list[Future] = []
        size = -(-len(prompts) // self.count)
        for start in range(0, len(prompts), size):
            part = slice(start, start + size)
            given = params[part] if isinstance(params, Sequence) else params
            parts.append(self.pool.submit(_prepare, (task, prompts[part], given), options))
        return [request for part in parts for request in unpack(part.result())]


def _open(model: str, asked: dict[str, Any]) -> None:
    """Describe the model of this process."""
    import jax

    from jaxpool.loading import describe

    global _described
    jax.config.update("jax_platforms", "cpu")  # should anything ask for a device
    _described = describe(model, **asked)


def _prepare(call: tuple, options: dict[str, Any]) -> tuple:
    return pack(offline.prepare(_described, *call, **options))
