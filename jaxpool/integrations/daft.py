"""Daft: `frame.with_column("embedding", embed("a/model")(frame["text"]))`."""

from typing import Any

import daft

from jaxpool.jobs.embedder import Embedder


def embed(model: str, task: str = "embed", *, batch_size: int = 8192, **options: Any) -> Any:
    """A function of a text column (of two, to score) that gives the main result as a column.

    options: those of `jaxpool.Embedder`. The model is loaded here to learn the type, and once in
    each process that computes.
    """
    embedder = Embedder(model, task, keep=[], on_error="null", **options)
    field = [f for f in embedder.fields if f.name not in ("label", "error")][0]
    from jaxpool.jobs.fields import arrow_type

    kind = daft.DataType.from_arrow_type(arrow_type(field))

    @daft.udf(return_dtype=kind, batch_size=batch_size)
    def compute(*columns):
        import pyarrow as pa

        arrays = {n: c.to_arrow() for n, c in zip(embedder.columns, columns, strict=True)}
        return daft.Series.from_arrow(embedder(pa.table(arrays))[field.name].combine_chunks())

    return compute
