"""The engine of pictures by themselves: equal ones are computed once."""

import hashlib
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np

from jaxpool.engine.batch import Request
from jaxpool.images.cache import Cache
from jaxpool.nn.arch import Arch


class Started(NamedTuple):
    """Requests of pictures: their keys, what is known of these, and what is being computed.

    first: the request that is computed for each key that is not known.
    """

    keys: list[tuple]
    known: dict[tuple, Any]
    first: dict[tuple, int]
    in_flight: Any = None


class TowerEngine:
    """Computes pictures with an `engine.Engine`, equal ones once, by the content of their patches.

    Results are kept in the cache, for later calls. Where pictures stand among the tokens of texts
    there are none of a picture alone, and each request is computed.
    """

    def __init__(self, engine: Any, cache: Cache):
        self.engine, self.cache = engine, cache

    def length(self, request: Request) -> int:
        """What a request takes of a row: patches, or tokens where pictures stand among them."""
        first = self.engine.executor.arch.before_patches
        return request.length if request.picture is None else first + request.size

    def run(self, task, requests: Sequence[Request]) -> Iterator[tuple[int, Any]]:
        """Yields `(index of the request, result)` as `Engine.run` does."""
        if self.engine.executor.arch.joins:
            yield from self.engine.run(task, requests)
            return
        asked = self._ask(task, requests)
        order = list(asked.first)
        alike: dict[tuple, list[int]] = {key: [] for key in asked.keys}
        for i, key in enumerate(asked.keys):
            alike[key].append(i)
        for key, result in asked.known.items():
            yield from ((i, _copy(result)) for i in alike[key])
        wanted = [requests[i] for i in asked.first.values()]
        for i, result in self.engine.run(task, wanted) if wanted else ():
            self._keep(order[i], result)
            yield from ((one, _copy(result)) for one in alike[order[i]])

    def start(self, task, requests: Sequence[Request]) -> Started:
        """Dispatch what is not known; `finish` gives all."""
        if self.engine.executor.arch.joins:
            return Started([], {}, {}, self.engine.start(task, requests))
        asked = self._ask(task, requests)
        wanted = [requests[i] for i in asked.first.values()]
        return asked._replace(in_flight=self.engine.start(task, wanted) if wanted else None)

    def finish(self, started: Started) -> list:
        """The results, in the order of the requests."""
        found = self.engine.finish(started.in_flight) if started.in_flight else []
        if not started.keys:
            return found
        computed = dict(zip(started.first, found, strict=True))
        for key, result in computed.items():
            self._keep(key, result)
        every = started.known | computed
        return [_copy(every[key]) for key in started.keys]

    def _ask(self, task, requests: Sequence[Request]) -> Started:
        keys = [(task, *_content(request)) for request in requests]
        known: dict[tuple, Any] = {}
        first: dict[tuple, int] = {}
        for i, key in enumerate(keys):
            if key in known or key in first:
                continue
            if self.cache.most and (found := self.cache.get(key)) is not None:
                known[key] = found
            else:
                first[key] = i
        return Started(keys, known, first)

    def _keep(self, key: tuple, result: Any) -> None:
        if not self.cache.most:
            return
        size = sum(leaf.nbytes for leaf in jax.tree.leaves(result))
        self.cache.put(key, _copy(result), size)


def alone(params: dict, arch: Arch) -> tuple[dict, Arch]:
    """The parameters and the architecture of a tower beside a text model, unless both are one."""
    if not arch.vision or arch.joins:
        return params, arch
    return {"heads": params.get("heads", {})} | params["vision"], arch.vision


def _content(request: Request) -> tuple:
    """What the result of a picture depends on; its patches, and a query, by their hash."""
    picture, query = request.picture, request.query
    asked = None if query is None else (query.shape, _hash(query))
    own = (request.dimensions, request.activate, request.adapter, asked)
    return _hash(picture.patches), picture.rows, picture.cols, *own


def _hash(array: np.ndarray) -> bytes:
    return hashlib.blake2b(array.tobytes(), digest_size=16).digest()


def _copy(result: Any) -> Any:
    """A result of a caller's own, who may write into it."""
    return jax.tree.map(np.copy, result)
