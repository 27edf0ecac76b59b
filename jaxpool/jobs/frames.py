"""Rows as libraries hold them: Arrow, dicts of NumPy arrays, lists of dicts, pandas frames.

A frame gives a column as a list, and takes columns of results to give back what it was made of.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from jaxpool.jobs.fields import Column


class Arrow:
    """A pyarrow Table or RecordBatch."""

    def __init__(self, data: Any):
        self.data, self.names, self.count = data, data.schema.names, data.num_rows

    def column(self, name: str) -> list:
        """The values of a column."""
        return self.data[name].to_pylist()

    def take(self, rows: list[int] | None, kept: Sequence[str], added: list[Column]) -> Any:
        """Some rows (None: all) of the kept columns, with columns added."""
        data = self.data.select(list(kept))
        data = data if rows is None else data.take(np.array(rows, np.int64))
        # Built anew: that serves tables and batches of any pyarrow alike.
        arrays = {name: data[name] for name in kept} | {c.field.name: c.arrow for c in added}
        fields = [data.schema.field(name) for name in kept]
        return type(self.data).from_arrays(
            list(arrays.values()), schema=_schema(fields, added, data.schema.metadata)
        )


def _schema(fields: list, added: list[Column], metadata):
    import pyarrow as pa

    from jaxpool.jobs.fields import arrow_type

    new = [pa.field(c.field.name, arrow_type(c.field)) for c in added]
    return pa.schema([*fields, *new], metadata=metadata)


class Arrays:
    """A dict of NumPy arrays (or lists), one a column."""

    def __init__(self, data: Mapping[str, Any]):
        self.data, self.names = data, list(data)
        counts = {name: len(values) for name, values in data.items()}
        if len(set(counts.values())) > 1:
            raise ValueError(f"columns differ in length: {counts}")
        self.count = next(iter(counts.values()), 0)

    def column(self, name: str) -> list:
        """The values of a column."""
        return list(self.data[name])

    def take(self, rows: list[int] | None, kept: Sequence[str], added: list[Column]) -> dict:
        """Some rows (None: all) of the kept columns, with columns added."""
        found = {name: self.data[name] for name in kept}
        if rows is not None:
            found = {name: _pick(values, rows) for name, values in found.items()}
        return found | {column.field.name: column.array for column in added}


def _pick(values: Any, rows: list[int]) -> Any:
    return values[rows] if isinstance(values, np.ndarray) else [values[i] for i in rows]


class Rows:
    """A list of dicts, one a row."""

    def __init__(self, data: Sequence[Mapping]):
        self.data, self.count = data, len(data)
        self.names = list(data[0]) if data else []

    def column(self, name: str) -> list:
        """The values of a column; None in a row that lacks it."""
        return [row.get(name) for row in self.data]

    def take(self, rows: list[int] | None, kept: Sequence[str], added: list[Column]) -> list[dict]:
        """Some rows (None: all) of the kept columns, with columns added."""
        chosen = self.data if rows is None else [self.data[i] for i in rows]
        found = [{name: row[name] for name in kept if name in row} for row in chosen]
        for column in added:
            for row, value in zip(found, column.plain, strict=True):
                row[column.field.name] = value
        return found


class Pandas:
    """A pandas DataFrame; its index stays."""

    def __init__(self, data: Any):
        self.data, self.names, self.count = data, list(data.columns), len(data)

    def column(self, name: str) -> list:
        """The values of a column; None where pandas has none."""
        values = self.data[name]
        return [None if gone else v for v, gone in zip(values, values.isna(), strict=True)]

    def take(self, rows: list[int] | None, kept: Sequence[str], added: list[Column]) -> Any:
        """Some rows (None: all) of the kept columns, with columns added."""
        data = self.data[list(kept)]
        data = data if rows is None else data.iloc[rows]
        return data.assign(**{column.field.name: column.plain for column in added})


def frame(data: Any) -> Arrow | Arrays | Rows | Pandas:
    """The frame of what a library passes."""
    library = type(data).__module__.partition(".")[0]
    if library == "pyarrow":
        return Arrow(data)
    if library == "pandas":
        return Pandas(data)
    if isinstance(data, Mapping):
        return Arrays(data)
    if isinstance(data, Sequence) and all(isinstance(row, Mapping) for row in data):
        return Rows(data)
    raise TypeError(
        "rows must be a pyarrow Table or RecordBatch, a dict of arrays, a list of dicts or a "
        f"pandas DataFrame, got {type(data).__name__}"
    )
