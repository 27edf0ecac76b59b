"""Layers of several kinds as runs of repeating patterns, each of which is one loop."""

from collections.abc import Callable, Iterator
from functools import cache
from typing import NamedTuple

import jax

from jaxpool.nn.arch import PARTS

Kinds = tuple[tuple[str, str], ...]


class Section(NamedTuple):
    """The layers `kinds`, `times` over, the parts of each, that follow the layers `before`.

    It cuts trees of stacked layers, whose parts that not all layers have are stacked over those
    that do. What one layer of a period alone has comes without an axis of layers: XLA on CPU
    copies all of a stack with a second axis of one, at every call.
    """

    before: Kinds
    kinds: Kinds
    times: int

    def period(self, tree: dict, i: jax.Array) -> dict:
        """The layers of its period `i`."""

        def at(leaf, first: int, each: int):
            if each == 1:
                return jax.lax.dynamic_index_in_dim(leaf, first + i, keepdims=False)
            return jax.lax.dynamic_slice_in_dim(leaf, first + i * each, each)

        return self._cut(tree, at)

    def periods(self, tree: dict) -> dict:
        """All of its layers, a period after the other, for a scan."""

        def each_period(leaf, first: int, each: int):
            leaf = leaf[first : first + self.times * each]
            return leaf if each == 1 else leaf.reshape(self.times, each, *leaf.shape[1:])

        return self._cut(tree, each_period)

    def layers(self, period: dict) -> Iterator[dict]:
        """Each layer of a period."""
        for i, parts in enumerate(self.kinds):
            before = [name for others in self.kinds[:i] for name in others]
            layer = {}
            for name, part in period.items():
                if name in parts or name not in PARTS.values():
                    at = before.count(name) if name in parts else i
                    several = self._place(name)[1] > 1
                    layer[name] = jax.tree.map(lambda x, at=at: x[at], part) if several else part
            yield layer

    def _place(self, name: str) -> tuple[int, int]:
        """The first of its layers among those that have a part, and how many a period has."""
        if name not in PARTS.values():
            return len(self.before), len(self.kinds)
        return sum(name in x for x in self.before), sum(name in x for x in self.kinds)

    def _cut(self, tree: dict, take: Callable) -> dict:
        places = {name: self._place(name) for name in tree}
        return {
            name: jax.tree.map(lambda leaf, at=places[name]: take(leaf, *at), part)
            for name, part in tree.items()
            if places[name][1]
        }


@cache
def sections(kinds: Kinds, first: int = 0) -> tuple[Section, ...]:
    """The layers from `first`, with as few to compile as can be: periods are shortest in all."""
    best: list[tuple[int, tuple[Section, ...]]] = [(0, ())]
    for end in range(first + 1, len(kinds) + 1):
        found = []
        for period in range(1, end - first + 1):
            pattern, start = kinds[end - period : end], end - period
            while start >= first and kinds[start : start + period] == pattern:
                cost, before = best[start - first]
                section = Section(kinds[:start], pattern, (end - start) // period)
                found.append((cost + period, (*before, section)))
                start -= period
        best.append(min(found, key=lambda x: (x[0], len(x[1]))))
    return best[-1][1]


def whole(kinds: Kinds) -> tuple[Section, ...]:
    """One section of all layers where their kinds repeat, else as few layers to compile as can be.

    A scan over some layers of a stack copies them first, at every call.
    """
    for period in range(1, len(kinds) // 2 + 1):
        if kinds[:period] * (len(kinds) // period) == kinds:
            return (Section((), kinds[:period], len(kinds) // period),)
    return sections(kinds)


def singly(kinds: Kinds) -> tuple[Section, ...]:
    """Each layer by itself."""
    return tuple(Section(kinds[:i], (parts,), 1) for i, parts in enumerate(kinds))
