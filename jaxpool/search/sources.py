"""Where vectors come from: arrays, files that are memory-mapped, Arrow columns; one or several."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np


class Joined:
    """Arrays `[N_i, F]` that are read as one: `[first:last]`, or by an array of rows."""

    def __init__(self, parts: Sequence[np.ndarray]):
        kinds = {(part.shape[1], part.dtype) for part in parts}
        if len(kinds) > 1:
            raise ValueError(f"parts differ in features or dtype: {sorted(map(str, kinds))}")
        ((width, self.dtype),) = kinds
        self.parts, self.firsts = parts, np.cumsum([0, *map(len, parts)])
        self.shape = (int(self.firsts[-1]), width)

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, rows: Any) -> np.ndarray:
        if isinstance(rows, slice):
            return self._between(*rows.indices(len(self))[:2])
        rows = np.asarray(rows)
        found = np.empty((*rows.shape, self.shape[1]), self.dtype)
        owners = np.searchsorted(self.firsts, rows, side="right") - 1
        for owner in np.unique(owners):
            mine = owners == owner
            found[mine] = self.parts[owner][rows[mine] - self.firsts[owner]]
        return found

    def _between(self, first: int, last: int) -> np.ndarray:
        begin = min(int(np.searchsorted(self.firsts, first, "right")), len(self.parts)) - 1
        end = max(int(np.searchsorted(self.firsts, last)), begin + 1)
        owners = zip(self.parts[begin:end], self.firsts[begin:end].tolist(), strict=True)
        pieces = [part[max(first - own, 0) : last - own] for part, own in owners]
        return pieces[0] if len(pieces) == 1 else np.concatenate(pieces)


class Documents(Sequence):
    """The token vectors of documents, `[T_i, F]` each, of pyarrow arrays of lists of vectors."""

    def __init__(self, chunks: Sequence):
        self.ends = [chunk.offsets.to_numpy() for chunk in chunks]
        self.values = [_matrix(chunk.values) for chunk in chunks]
        self.firsts = np.cumsum([0, *map(len, chunks)])

    def __len__(self) -> int:
        return int(self.firsts[-1])

    def __getitem__(self, row: Any) -> Any:
        if isinstance(row, slice):
            return [self[i] for i in range(*row.indices(len(self)))]
        owner = int(np.searchsorted(self.firsts, row, side="right")) - 1
        begin = row - int(self.firsts[owner])
        first, last = self.ends[owner][begin : begin + 2].tolist()
        return self.values[owner][first:last]


def vectors(source: Any) -> Any:
    """Vectors `[N, F]` as NumPy has them, without a copy where that can be.

    Of an array, a pyarrow column of FixedSizeList, a .npy or .arrow file (memory-mapped; of an
    Arrow file its one column of vectors), or a list of such files.
    """
    parts = list(_parts(source))
    return parts[0] if len(parts) == 1 else Joined(parts)


def _parts(source: Any) -> Iterator[Any]:
    if _files(source):
        for file in source:
            yield from _parts(file)
        return
    source = _opened(source)
    if hasattr(getattr(source, "type", None), "list_size"):
        chunks = _chunks(source)
        yield from map(_matrix, [chunk for chunk in chunks if len(chunk)] or chunks[:1])
        return
    found = source if isinstance(source, np.ndarray | Joined) else np.asarray(source)
    if len(found.shape) != 2:
        raise ValueError(f"vectors must be [N, F], got an array of shape {found.shape}")
    yield found


def token_vectors(source: Any) -> Sequence:
    """Documents as a sequence of token vectors `[T_i, F]`, none of which is read before it is used.

    Of a sequence of arrays, an array `[N, T, F]`, a pyarrow column of lists of FixedSizeList (what
    `token_embed` gives), a .npy or .arrow file, or a list of .arrow files.
    """
    columns = list(map(_opened, source)) if _files(source) else [source := _opened(source)]
    if hasattr(columns[0], "type"):
        for kind in (column.type for column in columns):
            if not hasattr(getattr(kind, "value_type", None), "list_size"):
                raise ValueError(f"token vectors are lists of FixedSizeList, got {kind}")
        return Documents([c for column in columns for c in _chunks(column) if len(c)])
    if isinstance(source, np.ndarray) and source.ndim != 3:
        raise ValueError(f"token vectors are [N, T, F] or a list of [T, F], got {source.shape}")
    return source


def _files(source: Any) -> bool:
    several = isinstance(source, list | tuple) and len(source) > 0
    return several and isinstance(source[0], str | Path)


def _opened(source: Any) -> Any:
    """What a path names, memory-mapped; anything else as it is."""
    if not isinstance(source, str | Path):
        return source
    if Path(source).suffix != ".arrow":
        return np.load(source, mmap_mode="r")
    import pyarrow as pa

    with pa.memory_map(str(source)) as file:
        table = pa.ipc.open_file(file).read_all()
    nested = [n for n in table.schema.names if pa.types.is_nested(table.schema.field(n).type)]
    if len(nested) != 1:
        raise ValueError(f"{source}: wanted one column of vectors, found {nested}")
    return table[nested[0]]


def _chunks(column: Any) -> list:
    if column.null_count:
        raise ValueError(f"{column.null_count} of the vectors are null")
    return column.chunks if hasattr(column, "chunks") else [column]


def _matrix(chunk: Any) -> np.ndarray:
    """A pyarrow array of FixedSizeList as `[N, F]`."""
    return chunk.flatten().to_numpy(zero_copy_only=False).reshape(-1, chunk.type.list_size)
