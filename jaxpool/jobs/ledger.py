"""What a job keeps beside its output: who it is, what is done, chunks of what is not.

    OUT/_job/job.json              model, fingerprint and options: a run of others is refused
    OUT/_job/schema.arrow          the columns, which every part must have
    OUT/_job/chunks/PART/000000    chunks of a part that is not finished
    OUT/_job/parts/PART.json       rows, tokens and seconds of a part that is
    OUT/_job/manifest.json         all of them

Files are written under another name and renamed, so whatever is there is whole, and a process may
be killed at any moment. A part is done when its file is in place.
"""

import json
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from typing import Any
from uuid import uuid4

from jaxpool.jobs.files import File, create, move, put, written
from jaxpool.jobs.writers import WRITERS

ME = uuid4().hex[:12]  # this process
COUNTED = ("rows", "failed", "tokens", "seconds")


@dataclass(frozen=True)
class Part:
    """An input file, the path of its output, and the name that the ledger has for it."""

    source: File
    target: str
    key: str


class Ledger:
    """The bookkeeping of a job in a folder; any number of processes may share it."""

    def __init__(self, fs, folder: str, job: dict, kind: str):
        self.fs, self.folder, self.job, self.kind = fs, folder, job, kind

    def _path(self, *names: str) -> str:
        return "/".join((self.folder, *names))

    def open(self) -> None:
        """Begin the job, or go on with it; refuse one of another model, or with other options."""
        path = self._path("job.json")
        mine = json.dumps(self.job, indent=1).encode()
        create(self.fs, path, mine)
        there = json.loads(self.fs.cat_file(path))
        differs = [n for n, v in json.loads(mine).items() if n != "model" and there.get(n) != v]
        if not differs:
            return
        if not self.fs.exists(self._path("schema.arrow")):  # nothing has been computed yet
            put(self.fs, path, mine)
            return
        name = differs[0]
        raise ValueError(
            f"{self.folder} holds parts of another job: {name} is {there.get(name)!r} there and "
            f"{self.job[name]!r} here; choose another --output or delete it"
        )

    def done(self, part: Part) -> bool:
        """Whether a part is in place; refused if its source is not what it was made of."""
        if not self.fs.exists(part.target):
            return False
        record = self._path("parts", part.key + ".json")
        told = json.loads(self.fs.cat_file(record)) if self.fs.exists(record) else {}
        found = {"bytes": part.source.size, "version": part.source.version}
        if any(told.get(name) != value for name, value in found.items()):
            raise ValueError(
                f"{part.target} was not made by this job of {part.source.path} as it is now: "
                "delete it, or choose another --output"
            )
        self._forget(part)
        return True

    def chunks(self, part: Part) -> set[int]:
        """The chunks of a part that are there; those of a source that has changed are dropped."""
        folder = self._path("chunks", part.key)
        source = self._path("chunks", part.key, "source")
        identity = f"{part.source.path} {part.source.size} {part.source.version}".encode()
        if self.fs.exists(folder):
            self.fs.invalidate_cache(folder)
            if self.fs.exists(source) and self.fs.cat_file(source) == identity:
                names = (path.rpartition("/")[2] for path in self.fs.ls(folder, detail=False))
                return {int(name) for name in names if name.isdigit()}
            self.fs.rm(folder, recursive=True)
        put(self.fs, source, identity)
        return set()

    def save(self, part: Part, index: int, table: Any, facts: dict) -> None:
        """Keep a chunk, and what it took."""
        import pyarrow as pa

        table = self.conform(table, part)
        told = {name: str(value) for name, value in facts.items()}
        table = table.replace_schema_metadata(told)
        path = self._path("chunks", part.key, f"{index:06}")
        with written(self.fs, path) as file, pa.ipc.new_file(file, table.schema) as writer:
            writer.write_table(table)

    def conform(self, table: Any, part: Part) -> Any:
        """A table with the columns of the job; the first one decides them."""
        import pyarrow as pa

        if self._schema is None:
            content = _settled(table.schema).serialize().to_pybytes()
            create(self.fs, self._path("schema.arrow"), content)
            del self._schema
        wanted = self._schema
        if table.schema.names != wanted.names:
            raise ValueError(
                f"{part.source.path} has the columns {table.schema.names}, and what was read "
                f"before {wanted.names}"
            )
        columns = []
        for field, column in zip(wanted, table.columns, strict=True):
            if column.type != field.type:
                if column.null_count < len(column):
                    raise ValueError(
                        f"{part.source.path}: column {field.name!r} is {column.type}, and "
                        f"{field.type} in what was read before"
                    )
                column = pa.chunked_array([pa.nulls(len(column), field.type)])
            columns.append(column)
        return pa.Table.from_arrays(columns, schema=wanted)

    @cached_property
    def _schema(self) -> Any:
        import pyarrow as pa

        path = self._path("schema.arrow")
        if not self.fs.exists(path):
            return None
        return pa.ipc.read_schema(pa.py_buffer(self.fs.cat_file(path)))

    def finish(self, part: Part, count: int, empty: Callable[[], Any]) -> None:
        """Join the chunks of a part and put it in place; `empty` makes a table of no rows.

        The metadata of parquet and Arrow files say which model and embedding space they are of.
        """
        names = [self._path("chunks", part.key, f"{index:06}") for index in range(count)]
        unfinished = self._path("unfinished", f"{ME}-{part.key.replace('/', '-')}")
        self.fs.makedirs(self._path("unfinished"), exist_ok=True)
        space = {f"jaxpool.{name}": str(self.job.get(name)) for name in ("model", "fingerprint")}
        schema = (self._schema or _settled(empty().schema)).with_metadata(space)
        try:
            facts = self._facts(names)
            write = WRITERS[self.kind]
            write(self.fs, unfinished, schema, self._tables(names), facts["rows"])
        except FileNotFoundError:
            if self.fs.exists(part.target):  # another worker, who took this one for dead, was first
                return
            raise
        source = part.source
        record = {"source": source.path, "part": part.target, "bytes": source.size}
        record |= {"version": source.version, **facts}
        record["finished"] = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
        put(self.fs, self._path("parts", part.key + ".json"), json.dumps(record).encode())
        move(self.fs, unfinished, part.target)
        self._forget(part)

    def _facts(self, names: list[str]) -> dict:
        """What some chunks took, together."""
        import pyarrow as pa

        totals = dict.fromkeys(COUNTED, 0)
        for name in names:
            with self.fs.open(name, "rb") as file:
                told = pa.ipc.open_file(file).schema.metadata
            for fact in COUNTED:
                totals[fact] += json.loads(told[fact.encode()])
        return totals | {"seconds": round(totals["seconds"], 3)}

    def _tables(self, names: list[str]) -> Iterator[Any]:
        import pyarrow as pa

        for name in names:
            with self.fs.open(name, "rb") as file:
                yield pa.ipc.open_file(file).read_all().replace_schema_metadata(None)

    def _forget(self, part: Part) -> None:
        with suppress(FileNotFoundError):
            self.fs.rm(self._path("chunks", part.key), recursive=True)

    def records(self, parts: list[Part]) -> Iterator[dict]:
        """What is told of the parts that are in place."""
        for part in parts:
            if self.fs.exists(part.target):
                yield json.loads(self.fs.cat_file(self._path("parts", part.key + ".json")))

    def write_manifest(self, parts: list[Part], model: str) -> dict:
        """Write the job, its totals so far and its parts; returns the totals."""
        records = list(self.records(parts))
        totals = {name: round(sum(r[name] for r in records), 3) for name in COUNTED}
        totals |= {"parts": len(records), "of": len(parts)}
        manifest = {"model": model, **self.job, **totals, "files": records}
        put(self.fs, self._path("manifest.json"), json.dumps(manifest, indent=1).encode())
        return totals


def _settled(schema: Any) -> Any:
    """A schema whose columns all have a type: strings, where nothing was there to tell."""
    import pyarrow as pa

    fields = [f.with_type(pa.string()) if pa.types.is_null(f.type) else f for f in schema]
    return pa.schema(fields)
