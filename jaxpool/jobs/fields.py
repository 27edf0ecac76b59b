"""Columns of results: what a task's results are called, and their Arrow types."""

from collections.abc import Callable, Sequence
from dataclasses import asdict
from functools import partial
from typing import Any, NamedTuple

import numpy as np

# What one row of a column is.
NUMBER = "number"  # a float
NUMBERS = "numbers"  # a float for each token or step: `[T]`
VECTOR = "vector"  # `[F]`
VECTORS = "vectors"  # a vector for each token: `[T, F]`
WEIGHTS = "weights"  # a sparse vector `[V]`, kept as the entries that are not zero
TEXT = "text"  # a string
SPANS = "spans"  # a list of `jaxpool.tasks.entities.Entity`

ERROR = "error"  # the column of reasons why a row has no result


class Field(NamedTuple):
    """A column: its name, what a row of it is, its width F and the dtype of its numbers."""

    name: str
    kind: str
    width: int = 0
    dtype: str = "float32"


class Column(NamedTuple):
    """A field and its values, one a row; None where a row has none."""

    field: Field
    values: list

    @property
    def plain(self) -> list:
        """The values as Python and NumPy have them."""
        makers: dict[str, Callable] = {WEIGHTS: _entries, SPANS: _spans}
        make = makers.get(self.field.kind)
        if self.field.kind in (VECTOR, VECTORS, NUMBERS):
            make = partial(np.asarray, dtype=self.field.dtype)
        return self.values if make is None else [v if v is None else make(v) for v in self.values]

    @property
    def array(self) -> np.ndarray:
        """The values as one NumPy array; of objects where rows differ in shape or are missing."""
        values = self.plain
        shapes = {VECTOR: (-1, self.field.width), NUMBER: (-1,)}
        if self.field.kind in shapes and all(v is not None for v in values):
            return np.array(values, self.field.dtype).reshape(shapes[self.field.kind])
        objects = np.empty(len(values), object)
        for row, value in enumerate(values):  # at once, NumPy would look into the values
            objects[row] = value
        return objects

    @property
    def arrow(self):
        """The values as a pyarrow Array of `arrow_type(field)`."""
        import pyarrow as pa

        kind, there = self.field.kind, [v is not None for v in self.values]
        missing = None if all(there) else pa.array([not one for one in there])
        real = [v for v in self.values if v is not None]
        if kind == VECTOR:
            flat = np.zeros((len(self.values), self.field.width), self.field.dtype)
            if real:
                flat[there] = real
            return _vectors(flat, missing)
        if kind not in (VECTORS, NUMBERS, WEIGHTS):
            return pa.array(self.plain, arrow_type(self.field))
        items, lengths = _items(self.field, real)
        ends = np.zeros(len(there) + 1, np.int32)
        np.cumsum(np.where(there, _spread(lengths, there), 0), out=ends[1:])
        return pa.ListArray.from_arrays(pa.array(ends), items, mask=missing)


def arrow_type(field: Field):
    """The pyarrow type of a field."""
    import pyarrow as pa

    number = pa.from_numpy_dtype(np.dtype(field.dtype))
    spans = [("label", pa.string()), ("score", pa.float32()), ("start", pa.int32())]
    spans += [("end", pa.int32()), ("text", pa.string())]
    weights = pa.struct([("id", pa.int32()), ("weight", pa.float32())])
    return {
        NUMBER: pa.float32(),
        NUMBERS: pa.list_(number),
        VECTOR: pa.list_(number, field.width),
        VECTORS: pa.list_(pa.list_(number, field.width)),
        WEIGHTS: pa.list_(weights),
        TEXT: pa.string(),
        SPANS: pa.list_(pa.struct(spans)),
    }[field.kind]


def _vectors(flat: np.ndarray, missing=None):
    import pyarrow as pa

    width = flat.shape[1]
    return pa.FixedSizeListArray.from_arrays(pa.array(flat.ravel()), width, mask=missing)


def _items(field: Field, real: Sequence) -> tuple[Any, list[int]]:
    """The items of some lists, one after the other, and how many are of each."""
    import pyarrow as pa

    if field.kind == WEIGHTS:
        ids = [np.flatnonzero(v) for v in real]
        weights = [v[i] for v, i in zip(real, ids, strict=True)]
        parts = [_joined(ids, np.int32), _joined(weights, np.float32)]
        struct = pa.StructArray.from_arrays(list(map(pa.array, parts)), ["id", "weight"])
        return struct, list(map(len, ids))
    shape = (-1, field.width) if field.kind == VECTORS else (-1,)
    flat = _joined([np.asarray(v).ravel() for v in real], field.dtype).reshape(shape)
    return (_vectors(flat) if flat.ndim == 2 else pa.array(flat)), list(map(len, real))


def _joined(parts: Sequence[np.ndarray], dtype) -> np.ndarray:
    return np.concatenate([np.empty(0, dtype), *(np.asarray(part, dtype) for part in parts)])


def _spread(lengths: list[int], there: list[bool]) -> np.ndarray:
    spread = np.zeros(len(there), np.int64)
    spread[there] = lengths
    return spread


def _spans(spans: Sequence) -> list[dict]:
    return [asdict(span) for span in spans]


def _entries(vector: np.ndarray) -> list[dict]:
    ids = np.flatnonzero(vector)
    return [{"id": int(i), "weight": float(vector[i])} for i in ids]
