"""What clients of /v1/files and /v1/batches leave with the server: documents in a folder.

A file is its bytes (`file-….data`) and a document of OpenAI's shape (`file-….json`), a batch a
document (`batch_….json`). The folder is all the state there is: it outlives the server, and several
processes may share it.
"""

import fcntl
import os
import re
import shutil
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

import orjson

from serving.errors import APIError

NAMES = {"file": re.compile(r"file-[0-9a-f]{32}"), "batch": re.compile(r"batch_[0-9a-f]{32}")}
PREFIXES = {"file": "file-", "batch": "batch_"}


class Store:
    """The documents of a folder, which is made for its owner alone."""

    def __init__(self, folder: str | Path):
        self.folder = Path(folder)
        self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)

    def path(self, name: str, kind: str) -> Path:
        """Where something of a document lies: its "json", "data", "lock", ..."""
        return self.folder / f"{name}.{kind}"

    def add(self, content: BinaryIO, filename: str, purpose: str) -> dict:
        """Keep a file; its document."""
        name = new("file")
        with self.path(name, "data").open("xb") as target:
            shutil.copyfileobj(content, target)
        return self.describe(name, filename, purpose)

    def describe(self, name: str, filename: str, purpose: str) -> dict:
        """Make the document of a file whose bytes are there."""
        document = {
            "id": name,
            "object": "file",
            "bytes": self.path(name, "data").stat().st_size,
            "created_at": int(time.time()),
            "filename": filename,
            "purpose": purpose,
            "status": "processed",
        }
        return self.put(document)

    def put(self, document: dict) -> dict:
        """Write a document, whole or not at all."""
        path = self.path(document["id"], "json")
        fresh = path.with_name(f".{path.name}.{uuid.uuid4().hex}")
        fresh.write_bytes(orjson.dumps(document))
        os.replace(fresh, path)
        return document

    def get(self, kind: str, name: str) -> dict:
        """The document of a name; a 404 where there is none."""
        if NAMES[kind].fullmatch(name):
            try:
                return orjson.loads(self.path(name, "json").read_bytes())
            except FileNotFoundError:
                pass
        raise APIError(404, f"No such {kind} object: {name[:80]}", "id")

    def all(self, kind: str) -> list[dict]:
        """The documents of a kind, the newest first."""
        found = []
        for path in self.folder.glob(PREFIXES[kind] + "*.json"):
            try:
                found.append(self.get(kind, path.stem))
            except APIError:  # removed meanwhile
                continue
        return sorted(found, key=lambda document: document["created_at"], reverse=True)

    def remove(self, name: str) -> None:
        """Forget a file: its document first, then its bytes."""
        for kind in ("json", "data"):
            self.path(name, kind).unlink(missing_ok=True)

    @contextmanager
    def claim(self, name: str) -> Iterator[bool]:
        """Whether this process has a document for itself, at most until it ends."""
        with self.path(name, "lock").open("w") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                yield False
            else:
                yield True


def new(kind: str) -> str:
    """A fresh name."""
    return PREFIXES[kind] + uuid.uuid4().hex
