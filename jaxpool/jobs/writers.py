"""Tables of one schema as a file in the format of a part."""

from collections.abc import Callable, Iterable
from typing import Any

import numpy as np


def check(kind: str, keep, on_error: str, fields: list) -> None:
    """Refuse a format that cannot hold the columns of a job."""
    if kind not in WRITERS:
        raise ValueError(f"unknown output format {kind!r}; known: {', '.join(WRITERS)}")
    if kind == ".npy":
        if keep or on_error == "null":
            raise ValueError("npy holds vectors alone: no other columns (--keep), no nulls")
        if len(fields) > 1 or fields[0].kind not in ("vector", "number"):
            names = [field.name for field in fields]
            raise ValueError(f"npy holds one vector or number a row; this task gives {names}")
    if kind == ".lance":
        try:
            import lance  # noqa: F401
        except ImportError as error:
            raise ImportError("lance files: pip install pylance") from error


def _parquet(fs, path: str, schema, tables: Iterable, count: int) -> None:
    from pyarrow import parquet, types

    # Vectors have no values to share: a dictionary of them is only built to be thrown away.
    plain = [field.name for field in schema if not types.is_nested(field.type)]
    with (
        fs.open(path, "wb") as file,
        parquet.ParquetWriter(file, schema, use_dictionary=plain or False) as writer,
    ):
        for table in tables:
            writer.write_table(table)


def _arrow(fs, path: str, schema, tables: Iterable, count: int) -> None:
    import pyarrow as pa

    with fs.open(path, "wb") as file, pa.ipc.new_file(file, schema) as writer:
        for table in tables:
            writer.write_table(table)


def _npy(fs, path: str, schema, tables: Iterable, count: int) -> None:
    kind = schema.field(0).type
    vector = hasattr(kind, "list_size")
    dtype = np.dtype((kind.value_type if vector else kind).to_pandas_dtype())
    shape = (count, kind.list_size) if vector else (count,)
    header = {"descr": np.lib.format.dtype_to_descr(dtype), "fortran_order": False, "shape": shape}
    with fs.open(path, "wb") as file:
        np.lib.format.write_array_header_1_0(file, header)
        for table in tables:
            for chunk in table.column(0).chunks:
                numbers = chunk.flatten() if vector else chunk
                file.write(np.ascontiguousarray(numbers.to_numpy(zero_copy_only=False)).data)


def _jsonl(fs, path: str, schema, tables: Iterable, count: int) -> None:
    import orjson

    with fs.open(path, "wb") as file:
        for table in tables:
            for batch in table.to_batches(max_chunksize=1024):
                columns = [_values(column) for column in batch.columns]
                for row in zip(*columns, strict=True):
                    named = dict(zip(schema.names, row, strict=True))
                    file.write(orjson.dumps(named, option=orjson.OPT_SERIALIZE_NUMPY) + b"\n")


def _values(column) -> Iterable:
    """The values of a column; vectors as NumPy has them, whose float32 print shortly."""
    import pyarrow as pa

    if pa.types.is_fixed_size_list(column.type) and not column.null_count:
        vectors = column.flatten().to_numpy(zero_copy_only=False)
        wide = vectors.dtype != np.float16  # which JSON writers do not know
        return (vectors if wide else vectors.astype(np.float32)).reshape(len(column), -1)
    return column.to_pylist()


def _lance(fs, path: str, schema, tables: Iterable, count: int) -> None:
    import lance
    import pyarrow as pa

    batches = (batch for table in tables for batch in table.to_batches())
    lance.write_dataset(pa.RecordBatchReader.from_batches(schema, batches), path)


# Each writes `tables` of `schema`, `count` rows in all, to a path of a file system.
WRITERS: dict[str, Callable[[Any, str, Any, Iterable, int], None]] = {
    ".parquet": _parquet,
    ".npy": _npy,
    ".jsonl": _jsonl,
    ".arrow": _arrow,
    ".lance": _lance,
}
