"""Rows of files as Arrow tables of one size, in constant memory, with how far the file is read."""

import csv
import io
from codecs import BOM_UTF8
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import chain, islice
from typing import Any, NamedTuple

from jaxpool.jobs.files import File

LINES = 2048  # lines parsed at once
BLOCK = 1 << 20  # bytes of a csv file parsed at once, and of a parquet column read at once
GROUPS = 2  # row groups of a parquet file begun at once


class Rows(NamedTuple):
    """Some rows: the columns asked for; those whose text is none; the share of the file read."""

    table: Any
    faults: dict[int, str]
    share: float


def read(file: File, texts: Sequence[str], keep: Sequence[str] | None, size: int) -> Iterator[Rows]:
    """Rows of `size` each, the last one shorter: the columns of texts and those kept (None: all).

    A file without rows gives nothing.
    """
    try:
        yield from _sized(READERS[file.kind](file, list(texts), keep), size)
    except (ValueError, KeyError, UnicodeError, OSError, EOFError) as error:
        if file.path in str(error):
            raise
        raise ValueError(f"{file.path}: {' '.join(str(error).split())}") from error


def _sized(parts: Iterator[Rows], size: int) -> Iterator[Rows]:
    import pyarrow as pa

    waiting, count, share = [], 0, 0.0
    faults: dict[int, str] = {}
    for table, bad, share in parts:
        faults |= {count + row: why for row, why in bad.items()}
        waiting.append(table)
        count += table.num_rows
        while count >= size:
            whole = pa.concat_tables(waiting, promote_options="permissive")
            now = {row: why for row, why in faults.items() if row < size}
            faults = {row - size: why for row, why in faults.items() if row >= size}
            yield Rows(whole.slice(0, size).combine_chunks(), now, share)
            waiting, count = [whole.slice(size)], count - size
    if count:
        whole = pa.concat_tables(waiting, promote_options="permissive")
        yield Rows(whole.combine_chunks(), faults, share)


def _wanted(names: Sequence[str], texts: Sequence[str], keep: Sequence[str] | None) -> list[str]:
    """The columns to read of those there are."""
    wanted = list(dict.fromkeys([*texts, *(names if keep is None else keep)]))
    if missing := [name for name in wanted if name not in names]:
        raise ValueError(f"no column {missing[0]!r}; columns: {list(names)}")
    return wanted


def _open(file: File) -> tuple[Any, Any]:
    """The raw file, which knows how far it is read, and its content."""
    import pyarrow as pa

    raw = file.fs.open(file.path, "rb")
    kinds = {".gz": "gzip", ".zst": "zstd"}
    codec = next((name for end, name in kinds.items() if file.path.endswith(end)), None)
    if codec is None:
        return raw, raw
    return raw, io.BufferedReader(pa.CompressedInputStream(pa.PythonFile(raw), codec), BLOCK)


def _text(file: File) -> Iterator[tuple[list[bytes], float]]:
    """The lines of a file, some at a time, less a byte order mark at its start."""
    mark = BOM_UTF8
    raw, content = _open(file)
    with raw:
        while lines := list(islice(content, LINES)):
            if mark:
                lines[0], mark = lines[0].removeprefix(mark), b""
            yield lines, raw.tell() / max(file.size, 1)


def _lines(file: File, texts: list[str], keep) -> Iterator[Rows]:
    import pyarrow as pa

    if len(texts) > 1:
        raise ValueError(f"a text file has one column, and {texts} are asked for")
    _wanted(texts, texts, keep)
    for lines, share in _text(file):
        values = [line.decode("utf-8").rstrip("\r\n") for line in lines]
        yield Rows(pa.table({texts[0]: pa.array(values, pa.string())}), {}, share)


def _jsonl(file: File, texts: list[str], keep) -> Iterator[Rows]:
    import orjson

    number = 0
    for lines, share in _text(file):
        rows = []
        for line in lines:
            number += 1
            if line.isspace():
                continue
            try:
                row = orjson.loads(line)
            except orjson.JSONDecodeError as error:
                raise ValueError(f"{file.path}, line {number}: not JSON ({error})") from error
            row = {texts[0]: row} if isinstance(row, str) else row
            if not isinstance(row, dict):
                raise ValueError(f"{file.path}, line {number}: not an object: {row!r:.80}")
            rows.append(row)
        if rows:
            yield _of_objects(rows, texts, keep, share)


def _of_objects(rows: list[dict], texts: list[str], keep, share: float) -> Rows:
    import pyarrow as pa

    names = list(dict.fromkeys(name for row in rows for name in row))
    columns, faults = {}, {}
    for name in _wanted(names, texts, keep):
        values = [row.get(name) for row in rows]
        if name not in texts:
            columns[name] = pa.array(values)
            continue
        for i, value in enumerate(values):
            if value is not None and not isinstance(value, str):
                faults[i], values[i] = f"wanted a text, found {value!r:.80}", None
        columns[name] = pa.array(values, pa.string())
    return Rows(pa.table(columns), faults, share)


def _csv(file: File, texts: list[str], keep) -> Iterator[Rows]:
    """All columns as strings: a csv file has no types, and "007" stays so."""
    import pyarrow as pa
    from pyarrow import csv as arrow_csv

    raw, content = _open(file)
    with raw:
        first = content.readline().decode("utf-8-sig")
    names = next(csv.reader([first]), [])
    wanted = _wanted(names, texts, keep)
    raw, content = _open(file)
    with raw:
        reader = arrow_csv.open_csv(
            pa.PythonFile(content, mode="r"),
            arrow_csv.ReadOptions(block_size=BLOCK),
            arrow_csv.ParseOptions(newlines_in_values=True),
            arrow_csv.ConvertOptions(
                column_types={name: pa.string() for name in names},
                include_columns=wanted,
                strings_can_be_null=False,
            ),
        )
        for batch in reader:
            table = pa.Table.from_batches([batch])
            yield Rows(table, {}, min(raw.tell() / max(file.size, 1), 1.0))


def _parquet(file: File, texts: list[str], keep) -> Iterator[Rows]:
    """Row groups as streams: while one is read, the first rows of the next ones are decoded.

    Arrow's own scanner would read ahead to the end of the file.
    """
    from pyarrow import parquet

    with file.fs.open(file.path, "rb") as raw:
        facts = parquet.read_metadata(raw)
    wanted = _wanted(facts.schema.to_arrow_schema().names, texts, keep)

    def begin(group: int) -> tuple[Iterator, Any]:
        options = {"pre_buffer": False, "buffer_size": BLOCK, "metadata": facts}
        opened = parquet.ParquetFile(file.fs.open(file.path, "rb"), **options)
        batches = opened.iter_batches(LINES, [group], wanted)
        return batches, next(batches, None)

    done, groups = 0, iter(range(facts.num_row_groups))
    with ThreadPoolExecutor(GROUPS) as pool:
        begun = deque(pool.submit(begin, group) for group in islice(groups, GROUPS))
        while begun:
            batches, first = begun.popleft().result()
            begun += (pool.submit(begin, group) for group in islice(groups, 1))
            for batch in chain([first] if first else [], batches):
                done += batch.num_rows
                yield _of_batch(batch, texts, done / max(facts.num_rows, 1))


def _arrow(file: File, texts: list[str], keep) -> Iterator[Rows]:
    """An IPC file (Feather too) or stream."""
    import pyarrow as pa

    with file.fs.open(file.path, "rb") as raw:
        known = raw.read(6) == b"ARROW1"
        raw.seek(0)
        reader = pa.ipc.open_file(raw) if known else pa.ipc.open_stream(raw)
        count = reader.num_record_batches if known else 0
        batches = map(reader.get_batch, range(count)) if known else reader
        wanted = _wanted(reader.schema.names, texts, keep)
        for number, batch in enumerate(batches, start=1):
            share = number / count if known else raw.tell() / max(file.size, 1)
            yield _of_batch(batch.select(wanted), texts, share)


def _of_batch(batch, texts: list[str], share: float) -> Rows:
    import pyarrow as pa

    table = pa.Table.from_batches([batch]).replace_schema_metadata(None)
    for name in texts:
        kind = table.schema.field(name).type
        if pa.types.is_dictionary(kind):
            kind = kind.value_type
        if not (pa.types.is_string(kind) or pa.types.is_large_string(kind) or _other(kind)):
            raise ValueError(f"column {name!r} is {kind}, not texts or pictures")
    return Rows(table, {}, share)


def _other(kind) -> bool:
    """Whether values are views, nothing at all, or what pictures come as: bytes, or structs."""
    import pyarrow as pa

    pictures = (pa.types.is_binary, pa.types.is_large_binary, pa.types.is_struct)
    return any(of(kind) for of in (pa.types.is_string_view, pa.types.is_null, *pictures))


READERS: dict[str, Callable[[File, list[str], Any], Iterator[Rows]]] = {
    ".txt": _lines,
    ".jsonl": _jsonl,
    ".csv": _csv,
    ".parquet": _parquet,
    ".arrow": _arrow,
    ".feather": _arrow,
}
