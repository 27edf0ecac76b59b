"""Bulk embedding of files: constant memory, resumable, for `jaxpool embed --input`.

Vectors are kept in numbered chunks in `OUT.parts/` as they are computed and joined at the end, so
an interrupted job goes on at its first missing chunk, whatever the format of the output.
"""

import csv
import json
import shutil
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from pathlib import Path

import numpy as np
from tqdm import tqdm

CHUNK = 4096  # texts a chunk: what is in memory at a time, and what an interruption can cost


def _lines(path: Path, column: str) -> Iterator[str]:
    with path.open(encoding="utf-8") as file:
        for line in file:
            yield line.rstrip("\n")


def _jsonl(path: Path, column: str) -> Iterator[object]:
    for number, line in enumerate(_lines(path, column), start=1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except json.JSONDecodeError as error:
            raise ValueError(f"{path}, line {number}: not JSON ({error})") from error
        yield row if isinstance(row, str) else _column(row, column, f"{path}, line {number}")


def _csv(path: Path, column: str) -> Iterator[object]:
    with path.open(encoding="utf-8", newline="") as file:
        for number, row in enumerate(csv.DictReader(file), start=2):
            yield _column(row, column, f"{path}, row {number}")


def _parquet(path: Path, column: str) -> Iterator[object]:
    from pyarrow import parquet

    with parquet.ParquetFile(path) as file:
        names = file.schema_arrow.names
        if column not in names:
            raise ValueError(f"{path} has no column {column!r}; columns: {names}")
        for batch in file.iter_batches(batch_size=CHUNK, columns=[column]):
            yield from batch.column(0).to_pylist()


def _column(row, column: str, where: str) -> object:
    if not isinstance(row, dict) or column not in row:
        names = sorted(row) if isinstance(row, dict) else type(row).__name__
        raise ValueError(f"{where}: no column {column!r}; found: {names}")
    return row[column]


READERS: dict[str, Callable[[Path, str], Iterator]] = {
    ".txt": _lines,
    ".jsonl": _jsonl,
    ".csv": _csv,
    ".parquet": _parquet,
}


def read_texts(path: Path, column: str) -> Iterator[str]:
    """The texts of a .txt (a line each), .jsonl, .csv or .parquet file, one at a time."""
    if path.suffix not in READERS:
        raise ValueError(f"{path}: unknown input format; known: {', '.join(READERS)}")
    for index, text in enumerate(READERS[path.suffix](path, column)):
        if not isinstance(text, str):
            raise ValueError(f"{path}, text {index + 1}: wanted a string, found {text!r}")
        yield text


def _write_npy(path: Path, chunks: Iterable[np.ndarray], count: int) -> None:
    file = None
    start = 0
    for chunk in chunks:
        if file is None:
            shape = (count, chunk.shape[1])
            file = np.lib.format.open_memmap(path, "w+", chunk.dtype, shape)
        file[start : start + len(chunk)] = chunk
        start += len(chunk)
    assert file is not None  # `embed_file` refuses an empty input
    file.flush()


def _write_jsonl(path: Path, chunks: Iterable[np.ndarray], count: int) -> None:
    import orjson

    index = 0
    with path.open("wb") as file:
        for chunk in chunks:
            for vector in chunk:
                row = {"index": index, "embedding": vector}
                file.write(orjson.dumps(row, option=orjson.OPT_SERIALIZE_NUMPY) + b"\n")
                index += 1


def _write_parquet(path: Path, chunks: Iterable[np.ndarray], count: int) -> None:
    import pyarrow as pa
    from pyarrow import parquet

    writer, index = None, 0
    for chunk in chunks:
        vectors = pa.FixedSizeListArray.from_arrays(pa.array(chunk.ravel()), chunk.shape[1])
        numbers = pa.array(np.arange(index, index + len(chunk)))
        table = pa.table({"index": numbers, "embedding": vectors})
        writer = writer or parquet.ParquetWriter(path, table.schema)
        writer.write_table(table)
        index += len(chunk)
    assert writer is not None  # `embed_file` refuses an empty input
    writer.close()


WRITERS: dict[str, Callable[[Path, Iterable[np.ndarray], int], None]] = {
    ".npy": _write_npy,
    ".jsonl": _write_jsonl,
    ".parquet": _write_parquet,
}


Embed = Callable[[Iterator[list[str]]], Iterator[list[np.ndarray]]]


def embed_file(embed: Embed, source: Path, column: str, output: Path, job: dict) -> int:
    """Embed every text of `source` into `output`; returns how many.

    `embed` gives the vectors of the texts of each chunk. `job` says what makes two runs the same
    (model, options): parts of another job are refused rather than mixed in.
    """
    if output.suffix not in WRITERS:
        raise ValueError(f"{output}: unknown output format; known: {', '.join(WRITERS)}")
    count = sum(1 for _ in read_texts(source, column))
    if not count:
        raise ValueError(f"{source} holds no texts")
    stat = source.stat()
    job = job | {"input": str(source.resolve()), "bytes": stat.st_size, "mtime": stat.st_mtime}
    parts = _open_parts(output, job | {"column": column, "chunk": CHUNK})
    _compute(embed, read_texts(source, column), parts, count)
    files = [parts / f"{start:012}.npy" for start in range(0, count, CHUNK)]
    unfinished = output.with_name(output.name + ".unfinished")
    WRITERS[output.suffix](unfinished, (np.load(file) for file in files), count)
    unfinished.replace(output)
    shutil.rmtree(parts)
    return count


def _open_parts(output: Path, job: dict) -> Path:
    parts = output.with_name(output.name + ".parts")
    parts.mkdir(parents=True, exist_ok=True)
    record = parts / "job.json"
    if record.is_file() and json.loads(record.read_text()) != job:
        raise ValueError(
            f"{parts} holds an unfinished job with another model, input or options; "
            "delete it or choose another --output"
        )
    record.write_text(json.dumps(job))
    return parts


def _compute(embed: Embed, texts: Iterator[str], parts: Path, count: int) -> None:
    """Write the missing chunks."""
    missing: deque[Path] = deque()

    def chunks() -> Iterator[list[str]]:
        for start in range(0, count, CHUNK):
            chunk, file = list(islice(texts, CHUNK)), parts / f"{start:012}.npy"
            if file.is_file():
                bar.update(len(chunk))
            else:
                missing.append(file)
                yield chunk

    with tqdm(total=count, unit="texts", dynamic_ncols=True) as bar:
        for vectors in embed(chunks()):
            file = missing.popleft()
            unfinished = file.with_suffix(".unfinished")
            with unfinished.open("wb") as handle:
                np.save(handle, np.stack(vectors))
            unfinished.replace(file)
            bar.update(len(vectors))
