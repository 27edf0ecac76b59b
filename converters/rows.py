"""The axis-string engine: tensors of a checkpoint <-> leaves of a parameter tree.

A table has one line for each tensor: our path, its name on disk, its axes on disk.

    layers.attention.query.kernel   encoder.layer.{L}.attention.self.query.weight   (N H) D

The axes of the leaf ("L D N H") are known, so import is a reshape and a transpose, and export is
their inverse. `{L}` in a name counts a leading axis of ours, `{L:1}` from 1 (slot 0 is zero); for
a leaf that some layers alone have (axes "J ..." or "M ...") it is the numbers of those layers. A
fused tensor lists its leaves in braces and their parts in a group: `layers.mlp.{gate,up}.kernel
... (F|F) D`; square brackets hold the parts where other axes surround them: `(K [G|1|1] H) D`,
queries, key and value of each kv head. Several leaves of a tensor without parts hold all of it. A
tied tensor, `lm_head.weight=embed_tokens.weight`, reads the second name where the first is not on
disk, and then is not written either.
"""

import itertools
import math
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import NamedTuple

import numpy as np

from converters.files.buffers import aligned, copy_lines
from converters.report import CheckpointError, check
from jaxpool.nn.leaf import Leaf

Numbers = Mapping[str, Sequence[int]]  # the layers that a letter counts


class Row(NamedTuple):
    """One tensor on disk: the leaves it holds, its name template, its axes.

    tied: the name it is read from instead where `name` is absent; exported: whether it is written.
    """

    paths: tuple[str, ...]
    name: str
    axes: str
    tied: str = ""
    exported: bool = True

    def rename(self, change: Callable[[str], str]) -> "Row":
        """The row with its names on disk changed."""
        return self._replace(name=change(self.name), tied=self.tied and change(self.tied))

    def tie(self, present) -> "Row":
        """The row as a file with the names `present` has it: its own tensor, or the tied one."""
        if not self.tied or self.name in present:
            return self
        return self._replace(name=self.tied, exported=False)


def parse(table: str) -> list[Row]:
    """The rows of a table text; empty lines and comments (#) are skipped."""
    rows = []
    for line in table.splitlines():
        line = line.partition("#")[0].strip()
        if line:
            path, name, axes = line.split(maxsplit=2)
            name, _, tied = name.partition("=")
            rows.append(Row(_expand(path), name, axes, tied))
    return rows


def _expand(path: str) -> tuple[str, ...]:
    found = re.fullmatch(r"(.*)\{(.*)\}(.*)", path)
    if not found:
        return (path,)
    head, names, tail = found.groups()
    return tuple(f"{head}{name}{tail}" for name in names.split(","))


# Axes on disk: a list of dimensions, each a list of factors; a factor is a letter or number, or
# the tuple of alternatives of a fused tensor, each a list of letters.


def _dimensions(axes: str) -> list[list]:
    return [_factors(group.strip("()")) for group in re.findall(r"\([^)]*\)|\S+", axes)]


def _factors(group: str) -> list:
    words = re.findall(r"\[[^\]]*\]|[^\s\[]+", group) if "[" in group else [group]
    factors: list = []
    for word in words:
        parts = [part.split() for part in word.strip("[]").split("|")]
        factors += [tuple(parts)] if len(parts) > 1 else parts[0]
    return factors


def _size(factor, sizes: dict[str, int]) -> int:
    if isinstance(factor, tuple):
        return sum(_size_all(part, sizes) for part in factor)
    return int(factor) if factor.isdigit() else sizes[factor]


def _size_all(factors, sizes) -> int:
    return math.prod(_size(factor, sizes) for factor in factors)


def disk_shape(axes: str, sizes: dict[str, int]) -> tuple[int, ...]:
    """The shape on disk that an axis string stands for."""
    return tuple(_size_all(factors, sizes) for factors in _dimensions(axes))


class Layout:
    """How one row's tensor maps to one slice (without the counted axes) of each of its leaves."""

    def __init__(self, row: Row, leaves: list[Leaf], sizes: dict[str, int], numbers: Numbers):
        self.row, self.leaves, self.numbers = row, leaves, numbers
        counters = re.findall(r"\{(\w)(?::(\d+))?\}", row.name)
        self.counters = {letter: int(first or 0) for letter, first in counters}
        self.counted = leaves[0].axes.split()[: len(counters)]
        self.sizes = sizes | {
            letter: size
            for leaf in leaves
            for letter, size in zip(leaf.axes.split(), leaf.shape, strict=True)
        }
        self.dimensions = _dimensions(row.axes)
        self.shape = disk_shape(row.axes, self.sizes)

    def names(self) -> Iterator[tuple[tuple[int, ...], str]]:
        """Every (index into the counted axes, name on disk)."""
        firsts = self.counters.values()
        counts = (range(i, self.sizes[x]) for x, i in zip(self.counted, firsts, strict=True))
        for index in itertools.product(*counts):
            numbers = {
                letter: self.numbers[axis][i] if axis in self.numbers else i
                for letter, axis, i in zip(self.counters, self.counted, index, strict=True)
            }
            yield index, re.sub(r"\{(\w)[^}]*\}", lambda m: str(numbers[m[1]]), self.row.name)  # noqa: B023

    def _letters(self, part: int) -> list[str]:
        flat = [f for factors in self.dimensions for f in factors]
        chosen = [f[part] if isinstance(f, tuple) else [f] for f in flat]
        return [letter for letters in chosen for letter in letters]

    def _ours(self, part: int, letters: list[str]) -> list[str]:
        """The letters of our leaf, decomposed as the disk has them (N is K G)."""
        axes = [x for x in self.leaves[part].axes.split() if x not in self.counted]
        split = {"N": ["K", "G"]} if "G" in letters else {}
        ones = [x for x in letters if x == "1"]
        return [y for x in axes for y in split.get(x, [x])] + ones

    def _order(self, part: int) -> tuple[list[str], list[int]]:
        letters = self._letters(part)
        ours = self._ours(part, letters)
        order, used = [], set()
        for letter in ours:
            at = next(i for i, x in enumerate(letters) if x == letter and i not in used)
            used.add(at)
            order.append(at)
        return letters, order

    def _fused(self) -> tuple[list[int], int] | None:
        """The shape with each factor an axis of its own, and which axis holds the parts."""
        flat = [f for factors in self.dimensions for f in factors]
        at = next((i for i, f in enumerate(flat) if isinstance(f, tuple)), None)
        return None if at is None else ([_size(f, self.sizes) for f in flat], at)

    def read(self, tensor: np.ndarray) -> list[np.ndarray]:
        """The slices of our leaves that a tensor on disk holds."""
        fused = self._fused()
        pieces = [tensor] * len(self.leaves)
        if fused:
            shape, at = fused
            flat = [f for factors in self.dimensions for f in factors]
            cuts = np.cumsum([_size_all(part, self.sizes) for part in flat[at]])[:-1]
            pieces = np.split(tensor.reshape(shape), cuts, axis=at)
        return [self._to_ours(part, piece) for part, piece in enumerate(pieces)]

    def _to_ours(self, part: int, piece: np.ndarray) -> np.ndarray:
        letters, order = self._order(part)
        leaf = self.leaves[part]
        shape = [
            size
            for letter, size in zip(leaf.axes.split(), leaf.shape, strict=True)
            if letter not in self.counted
        ]
        return (
            piece.reshape([_size(x, self.sizes) for x in letters]).transpose(order).reshape(shape)
        )

    def write(self, slices: list[np.ndarray]) -> np.ndarray:
        """The tensor on disk of slices of our leaves: the inverse of `read`."""
        pieces = [self._to_disk(part, piece) for part, piece in enumerate(slices)]
        fused = self._fused()
        if not fused:
            if any(not np.array_equal(pieces[0], piece) for piece in pieces[1:]):
                raise CheckpointError(f"{self.row.paths} share a tensor on disk, but differ")
            return np.ascontiguousarray(pieces[0].reshape(self.shape))
        shape, at = fused
        pieces = [p.reshape([*shape[:at], -1, *shape[at + 1 :]]) for p in pieces]
        return np.ascontiguousarray(np.concatenate(pieces, axis=at).reshape(self.shape))

    def _to_disk(self, part: int, piece: np.ndarray) -> np.ndarray:
        letters, order = self._order(part)
        permuted = [_size(letters[i], self.sizes) for i in order]
        return piece.reshape(permuted).transpose(np.argsort(order))


def layouts(
    rows: list[Row],
    leaves: dict[str, Leaf],
    sizes: dict[str, int],
    numbers: Numbers | None = None,
) -> list[Layout]:
    """Match rows to the leaves of a tree; rows for leaves the tree lacks are dropped.

    Every leaf must have exactly one row. `sizes` and `numbers` are those of the `Arch`.
    """
    made, seen = [], []
    for row in rows:
        present = [path for path in row.paths if path in leaves]
        if len(present) == len(row.paths):
            made.append(Layout(row, [leaves[path] for path in row.paths], sizes, numbers or {}))
            seen += present
    unnamed = sorted(set(leaves) - set(seen))
    doubled = sorted({path for path in seen if seen.count(path) > 1})
    if unnamed or doubled:
        raise CheckpointError(f"name table: no row for {unnamed}, several for {doubled}")
    return made


def read(
    made: list[Layout],
    source,
    dtype,
    put: Callable[[str, np.ndarray], object],
    ignored: tuple[str, ...] = (),
) -> dict[str, object]:
    """Fill every leaf from `source` (names -> arrays) and hand it to `put`; strict on both sides.

    dtype None keeps each tensor's own. Only the leaves of one row are in host memory at a time,
    and buffers are aligned, so that JAX on CPU takes them over without a copy.
    """
    check(made, source, ignored)
    tree = {}
    with ThreadPoolExecutor() as pool:
        for layout in made:
            names = list(layout.names())
            own = source[names[0][1]].dtype if dtype is None else dtype
            buffers = [aligned(leaf.shape, own) for leaf in layout.leaves]
            fill = partial(_fill, layout, source, buffers)
            list(pool.map(fill, names))
            for path, buffer in zip(layout.row.paths, buffers, strict=True):
                tree[path] = put(path, buffer)
    return tree


def _fill(layout: Layout, source, buffers: list[np.ndarray], item: tuple) -> None:
    index, name = item
    for buffer, part in zip(buffers, layout.read(source[name]), strict=True):
        copy_lines(buffer[(*index, ...)], part)


def write(made: list[Layout], tree: dict[str, object]) -> Iterator[tuple[str, np.ndarray]]:
    """Every `(name on disk, tensor)` of a flat tree: the inverse of `read`."""
    for layout in made:
        if not layout.row.exported:
            continue
        leaves = [np.asarray(tree[path]) for path in layout.row.paths]
        for index, name in layout.names():
            yield name, layout.write([leaf[index] for leaf in leaves])
