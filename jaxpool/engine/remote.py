"""Folders elsewhere (gs://, s3://, hf://, ...): copied to this machine once, written from it."""

import hashlib
import os
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from fnmatch import fnmatch
from pathlib import Path, PurePosixPath
from typing import Any

from jaxpool.engine.folders import cache_folder, make_private

EXTRAS = {"gs": "gcs", "gcs": "gcs", "s3": "s3", "s3a": "s3", "abfs": "azure", "az": "azure"}
VERSIONS = ("mtime", "ETag", "etag", "updated", "LastModified", "last_modified", "generation")


def is_remote(name: str | os.PathLike) -> bool:
    """Whether a name is a URL that fsspec reads; pkg:// is our own."""
    return "://" in os.fspath(name) and not os.fspath(name).startswith("pkg://")


def place(url: str) -> tuple[Any, str]:
    """The file system of a path or URL, and the path there."""
    from fsspec.core import url_to_fs

    scheme = url.partition("://")[0] if "://" in url else ""
    try:
        return url_to_fs(url)
    except ImportError as error:
        extra = EXTRAS.get(scheme)
        way = f"pip install 'jaxpool[{extra}]'" if extra else str(error)
        raise ImportError(f"{url}: {way}") from error
    except ValueError as error:
        raise ValueError(f"{url}: unknown kind of place {scheme!r} ({error})") from error


def version(info: dict) -> str:
    """What changes when a file does, as its file system tells."""
    return next((str(info[key]) for key in VERSIONS if info.get(key)), "")


def fetch(url: str, wanted: Sequence[str] = ("*",)) -> Path:
    """The copy of a remote folder on this machine: made at the first call, kept beside the cache.

    wanted: patterns of names below the folder. A folder in which a file has changed is copied
    anew. Raises `FileNotFoundError` where there is nothing.
    """
    fs, root = place(url)
    root = root.rstrip("/")
    infos = fs.find(root, detail=True).values() if fs.isdir(root) else ()
    names = {info["name"].removeprefix(root).lstrip("/"): info for info in infos}
    chosen = {n: i for n, i in names.items() if any(fnmatch(n, pattern) for pattern in wanted)}
    if not chosen:
        raise FileNotFoundError(f"{url}: no such folder, or nothing in it")
    facts = sorted((name, info["size"], version(info)) for name, info in chosen.items())
    copies = (cache_folder() or Path(tempfile.mkdtemp())) / "remote"
    folder = (
        copies / hashlib.sha256(repr((fs.unstrip_protocol(root), facts)).encode()).hexdigest()[:32]
    )
    if not folder.is_dir():
        make_private(copies)
        _copy(fs, chosen, folder)
    return folder


def _copy(fs, infos: dict[str, dict], folder: Path) -> None:
    """Copy files; the folder appears when all are there."""
    part = Path(tempfile.mkdtemp(dir=folder.parent))
    try:
        for name, info in infos.items():
            if ".." in PurePosixPath(name).parts:
                raise ValueError(f"{info['name']} leads out of its folder")
            target = part / name
            target.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            fs.get_file(info["name"], str(target))
            target.chmod(0o600)
        os.replace(part, folder)
    except OSError:
        if not folder.is_dir():  # otherwise another process has made the same copy
            raise
    finally:
        shutil.rmtree(part, ignore_errors=True)


@contextmanager
def written(url: str, force: bool) -> Iterator[Path]:
    """A new folder on this machine, which becomes a remote one at the end."""
    fs, root = place(url)
    if fs.exists(root) and not force:
        raise ValueError(f"{url} is there already: choose another, or replace it with --force")
    with tempfile.TemporaryDirectory() as made:
        yield Path(made)
        for path in sorted(Path(made).rglob("*")):
            if path.is_file():
                target = f"{root.rstrip('/')}/{path.relative_to(made).as_posix()}"
                fs.makedirs(target.rpartition("/")[0], exist_ok=True)
                fs.put_file(str(path), target)
