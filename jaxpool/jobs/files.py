"""Files wherever fsspec finds them: local paths, globs, folders, gs://, s3://, hf://, ..."""

import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any
from uuid import uuid4

from jaxpool.engine.remote import place, version

COMPRESSED = (".gz", ".zst")
MADE = (".job", "_job")  # folders that a job keeps beside its output


@dataclass(frozen=True)
class File:
    """A file to read: where it is, its name below what was asked for, its bytes and version."""

    fs: Any
    path: str
    name: str
    size: int
    version: str

    @property
    def kind(self) -> str:
        """The suffix that says its format, compression left out: ".jsonl" of "a.jsonl.gz"."""
        return suffix(self.name)


def suffix(name: str) -> str:
    """The last suffix of a name but for that of a compression."""
    path = PurePosixPath(name)
    return (path.with_suffix("") if path.suffix in COMPRESSED else path).suffix


def stem(name: str) -> str:
    """A name without its format and compression: "b/a" of "b/a.jsonl.gz"."""
    kind = suffix(name)
    return name[: name.rindex(kind)] if kind else name


def find(patterns: Sequence[str], kinds: Iterable[str]) -> list[File]:
    """The files of some paths, globs and folders, each once, in the order of their names.

    Of a folder, all with a suffix in `kinds`, however deep.
    """
    found: dict[str, File] = {}
    for pattern in patterns:
        for file in _expand(pattern, tuple(kinds)):
            if file.kind not in kinds:
                known = ", ".join(kinds)
                raise ValueError(f"{file.path}: unknown input format; known: {known}")
            found.setdefault(file.path, file)
    return sorted(found.values(), key=lambda file: (file.name, file.path))


def _expand(pattern: str, kinds: tuple[str, ...]) -> list[File]:
    fs, path = place(pattern)
    if any(mark in path for mark in "*?["):
        base = path[: min(path.index(mark) for mark in "*?[" if mark in path)].rpartition("/")[0]
        infos = [i for i in fs.glob(path, detail=True).values() if i["type"] == "file"]
    elif fs.isdir(path):
        base = path.rstrip("/")
        infos = [i for i in fs.find(path, detail=True).values() if suffix(i["name"]) in kinds]
    elif fs.exists(path):
        base, infos = path.rpartition("/")[0], [fs.info(path)]
    else:
        raise FileNotFoundError(f"no such file: {pattern}")
    files = [_file(fs, info, base) for info in infos]
    files = [file for file in files if not _made(file.name)]
    if not files:
        raise FileNotFoundError(f"{pattern}: no files there")
    return files


def _file(fs, info: dict, base: str) -> File:
    path = info["name"]
    name = path.removeprefix(base).lstrip("/")
    return File(fs, path, name, info["size"] or 0, version(info))


def _made(name: str) -> bool:
    return any(part.endswith(MADE) for part in PurePosixPath(name).parts[:-1])


def move(fs, source: str, target: str) -> None:
    """Rename over what is there; on a local disk at once or not at all."""
    fs.makedirs(target.rpartition("/")[0], exist_ok=True)
    if _local(fs):
        os.replace(source, target)
    else:
        fs.mv(source, target, recursive=fs.isdir(source))


def _local(fs) -> bool:
    return "file" in ((fs.protocol,) if isinstance(fs.protocol, str) else fs.protocol)


@contextmanager
def written(fs, path: str) -> Iterator[Any]:
    """A file to write: readers see the one before until it is whole."""
    unfinished = f"{path}.{uuid4().hex[:8]}.unfinished"
    fs.makedirs(path.rpartition("/")[0], exist_ok=True)
    with fs.open(unfinished, "wb") as file:
        yield file
    move(fs, unfinished, path)


def put(fs, path: str, content: bytes) -> None:
    """Write a whole file at once."""
    with written(fs, path) as file:
        file.write(content)


def create(fs, path: str, content: bytes) -> bool:
    """Write a whole file if there is none: of several processes that try, one gets True."""
    fs.makedirs(path.rpartition("/")[0], exist_ok=True)
    if not _local(fs):
        try:
            fs.pipe_file(path, content, mode="create")  # one request, which the store decides
        except FileExistsError:
            return False
        return True
    whole = Path(f"{path}.{uuid4().hex[:8]}.unfinished")
    whole.write_bytes(content)
    try:
        os.link(whole, path)
    except FileExistsError:
        return False
    finally:
        whole.unlink()
    return True
