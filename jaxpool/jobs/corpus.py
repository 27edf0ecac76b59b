"""A corpus of files through an `Embedder`: one part out for each file in.

Reading, checking and tokenizing run in a thread ahead of the device, writing in one behind it.
Memory holds a few chunks, whatever the files. A killed process loses at most those: another one,
or the same command again, goes on with what is missing.
"""

import time
from collections import Counter, deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, NamedTuple

from jaxpool.jobs import claims, readers, writers
from jaxpool.jobs.files import find, place, stem, suffix
from jaxpool.jobs.ledger import Ledger, Part
from jaxpool.jobs.progress import Progress, heartbeat
from jaxpool.jobs.work import RowError, Work

CHUNK = 8192  # rows planned together, and what an interruption can cost
AHEAD = 2  # chunks prepared before the device has asked for them


class Chunk(NamedTuple):
    """Rows of a part, ready for the device; or its end: `work` is None, `number` counts chunks."""

    part: Part
    number: int
    rows: int
    share: float
    work: Work | None


@dataclass(frozen=True)
class Corpus:
    """Where a job's rows come from and go to.

    inputs: paths, globs, folders or URLs; output: a folder, or a file for one file; kind: the
    format of parts in a folder; shard: which of how many (see `jaxpool.jobs.claims`); claim: take
    parts that no other worker of the same folder has; chunk: rows computed together; seconds:
    between heartbeat lines, 0 for none.
    """

    inputs: Sequence[str]
    output: str
    kind: str = ".parquet"
    shard: tuple[int, int] | None = None
    claim: bool = False
    chunk: int = CHUNK
    seconds: float = 30.0

    def run(self, embedder: Any) -> dict:
        """Write every part that is missing; the totals of the job, as in its manifest."""
        files = find(self.inputs, readers.READERS)
        fs, folder, kind, parts = _targets(files, self.output, self.kind)
        mine = claims.share(parts, self.shard)
        writers.check(kind, embedder.keep, embedder.on_error, embedder.fields)
        model = embedder.model
        job = {"model": model.name, "fingerprint": model.fingerprint, "dtype": model.arch.dtype}
        job |= {"format": kind, "chunk": self.chunk, **embedder.options}
        ledger = Ledger(fs, folder, job, kind)
        ledger.open()
        held = claims.Claims(fs, folder) if self.claim else None
        progress = Progress([part.source for part in mine], lambda: model.engine)
        with heartbeat(progress, self.seconds, held.renew if held else lambda: None):
            _Run(embedder, ledger, progress, held, self.chunk).all(mine)
        totals = ledger.write_manifest(parts, model.name)
        return totals | {"line": progress.line()}


def _targets(files: list, output: str, kind: str) -> tuple[Any, str, str, list[Part]]:
    """The file system, bookkeeping folder, format and parts of an output."""
    fs, path = place(output)
    path = path.rstrip("/")
    own = suffix(path)
    if own and not fs.isdir(path) or own == ".lance":
        if own not in writers.WRITERS:
            known = ", ".join(writers.WRITERS)
            raise ValueError(f"{output}: unknown output format; known: {known}")
        if len(files) > 1:
            raise ValueError(
                f"{output} is one file, and there are {len(files)} to read: give a folder"
            )
        return fs, f"{path}.job", own, [Part(files[0], path, "part")]
    parts = [Part(file, f"{path}/{stem(file.name)}{kind}", stem(file.name)) for file in files]
    twice = [key for key, count in Counter(part.key for part in parts).items() if count > 1]
    if twice:
        both = [part.source.path for part in parts if part.key == twice[0]]
        raise ValueError(f"{both[0]} and {both[1]} would both become {twice[0]}{kind}")
    return fs, f"{path}/_job", kind, parts


class _Run:
    """One process's way through its parts."""

    def __init__(self, embedder: Any, ledger: Ledger, progress: Progress, held, size: int):
        self.embedder, self.ledger, self.progress = embedder, ledger, progress
        self.held, self.size = held, size

    def all(self, parts: list[Part]) -> None:
        """Compute and write what is missing of some parts."""
        writing: deque[Future] = deque()
        with ThreadPoolExecutor(1) as reader, ThreadPoolExecutor(1) as writer:
            try:
                for chunk in _ahead(reader, self._chunks(parts)):
                    while len(writing) > AHEAD:
                        writing.popleft().result()
                    writing.append(self._step(writer, chunk))
                for future in writing:
                    future.result()
            finally:
                reader.shutdown(wait=False, cancel_futures=True)
                writer.shutdown(wait=True)  # what is computed is kept

    def _step(self, writer: ThreadPoolExecutor, chunk: Chunk) -> Future:
        if chunk.work is None:
            return writer.submit(self._finish, chunk)
        begun = time.monotonic()
        table = self.embedder.finish(chunk.work)
        facts = {"rows": table.num_rows, "failed": len(chunk.work.reasons)}
        facts |= {"tokens": chunk.work.tokens, "seconds": time.monotonic() - begun}
        told = (facts["rows"], facts["tokens"], facts["failed"])
        self.progress.count(chunk.part.source.path, chunk.share, *told)
        return writer.submit(self.ledger.save, chunk.part, chunk.number, table, facts)

    def _finish(self, chunk: Chunk) -> None:
        self.ledger.finish(chunk.part, chunk.number, self.embedder.empty)
        self.progress.already(chunk.part.source.path)
        self.progress.parts += 1
        if self.held:
            self.held.release(chunk.part.key)

    def _chunks(self, parts: list[Part]) -> Iterator[Chunk]:
        """What is to be computed, part by part."""
        for part in parts:
            if self.ledger.done(part) or (self.held and not self.held.take(part.key)):
                self.progress.already(part.source.path)
                continue
            if self.held and self.ledger.done(part):  # since it was looked at first
                self.held.release(part.key)
                continue
            yield from self._of(part)

    def _of(self, part: Part) -> Iterator[Chunk]:
        there, index, first = self.ledger.chunks(part), 0, 0
        keep, columns = self.embedder.keep, self.embedder.columns
        for table, faults, share in readers.read(part.source, columns, keep, self.size):
            if index in there:
                self.progress.already(part.source.path, share)
            else:
                try:
                    work = self.embedder.prepare(table, faults)
                except RowError as error:
                    where = f"{part.source.path}, row {first + error.row} (from 0)"
                    raise ValueError(f"{where}: {error.reason}") from error
                yield Chunk(part, index, table.num_rows, share, work)
            index, first = index + 1, first + table.num_rows
        yield Chunk(part, index, first, 1.0, None)


def _ahead(pool: ThreadPoolExecutor, items: Iterator) -> Iterator:
    """The items, while a thread makes the next ones."""
    end = object()
    making = deque(pool.submit(next, items, end) for _ in range(AHEAD))
    while (item := making.popleft().result()) is not end:
        making.append(pool.submit(next, items, end))
        yield item
