"""Spark: `embed(frame, Embedder("a/model"))` runs on the executors, on Arrow batches."""

from collections.abc import Callable, Iterable, Iterator
from typing import Any

from jaxpool.jobs.embedder import Embedder


def on_batches(embedder: Embedder) -> Callable[[Iterable[Any]], Iterator[Any]]:
    """The function for `mapInArrow`: record batches in, record batches with results out.

    Each worker process loads the model once. Spark has no lists of a fixed size: vectors become
    plain lists.
    """

    def function(batches: Iterable[Any]) -> Iterator[Any]:
        import pyarrow as pa

        for batch in batches:
            found = embedder(batch)
            columns = [_plain(column) for column in found.columns]
            yield pa.RecordBatch.from_arrays(columns, names=found.schema.names)

    return function


def _plain(column: Any) -> Any:
    import pyarrow as pa

    return column.cast(_plain_type(column.type)) if pa.types.is_nested(column.type) else column


def _plain_type(kind: Any) -> Any:
    import pyarrow as pa

    if pa.types.is_fixed_size_list(kind) or pa.types.is_list(kind):
        return pa.list_(_plain_type(kind.value_type))
    return pa.float32() if pa.types.is_float16(kind) else kind


def embed(frame: Any, embedder: Embedder) -> Any:
    """A Spark DataFrame with the results added; the driver loads the model to learn their types."""
    from pyspark.sql.pandas.types import from_arrow_type
    from pyspark.sql.types import StructField, StructType

    from jaxpool.jobs.fields import arrow_type

    added = {f.name: from_arrow_type(_plain_type(arrow_type(f))) for f in embedder.fields}
    kept = frame.columns if embedder.keep is None else embedder.keep
    fields = [frame.schema[name] for name in kept if name not in added]
    fields += [StructField(name, kind, True) for name, kind in added.items()]
    return frame.mapInArrow(on_batches(embedder), StructType(fields))
