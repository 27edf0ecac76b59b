"""Who works on which part: shards by number, or claim files that workers of one folder write."""

import json
import os
import re
import socket
import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from uuid import uuid4

from jaxpool.jobs.files import create, move, put
from jaxpool.jobs.ledger import ME

STALE = 120  # seconds after which a claim that is not renewed belongs to nobody
# Where clusters tell a worker its number, and how many there are (None: nowhere).
RANKS = (
    ("RANK", "WORLD_SIZE"),
    ("SLURM_PROCID", "SLURM_NTASKS"),
    ("JOB_COMPLETION_INDEX", None),
    ("TPU_WORKER_ID", "TPU_WORKER_HOSTNAMES"),
)


def shard_of(text: str) -> tuple[int, int]:
    """`i/n` as numbers, i from 0; `auto` and `auto/n` read the cluster's environment."""
    match = re.fullmatch(r"(\d+|auto)(?:/(\d+))?", text)
    if not match or (match[1] != "auto" and not match[2]):
        raise ValueError(f"--shard wants i/n, auto or auto/n, got {text!r}")
    own, many = match.groups()
    index, count = _rank() if own == "auto" else (int(own), None)
    count = int(many) if many else count
    if count is None:
        raise ValueError("--shard auto: how many workers there are is not said; use auto/n")
    if not index < count:
        raise ValueError(
            f"--shard {text}: shard {index} of {count}; the first is 0, so the last is {count - 1}"
        )
    return index, count


def _rank() -> tuple[int, int | None]:
    for name, size in RANKS:
        if name in os.environ:
            told = os.environ.get(size) if size else None
            return int(os.environ[name]), _count(told) if told else None
    raise ValueError(f"--shard auto: none of {', '.join(name for name, _ in RANKS)} is set")


def _count(text: str) -> int:
    """A number, or how many names there are."""
    return int(text) if text.isdigit() else len(text.split(","))


def share(parts: Sequence, shard: tuple[int, int] | None) -> list:
    """The parts of a shard: every n-th."""
    return list(parts) if shard is None else list(parts[shard[0] :: shard[1]])


class Claims:
    """Claim files of a folder: one worker a part, until it is done, dead or silent for long.

    Object stores have no rename: there, two workers that find a claim abandoned at the same moment
    may both inherit it. Both then write the same part, of which one stays.
    """

    def __init__(self, fs, folder: str, stale: float = STALE):
        self.fs, self.folder, self.stale = fs, folder, stale
        self.held: set[str] = set()
        self._lock = threading.Lock()

    def _path(self, key: str) -> str:
        return f"{self.folder}/claims/{key}"

    def take(self, key: str) -> bool:
        """Whether the part is this process's now."""
        path = self._path(key)
        with self._lock:
            if create(self.fs, path, self._content()) or self._inherit(path):
                self.held.add(key)
        return key in self.held

    def _inherit(self, path: str) -> bool:
        """Take over a claim that nobody keeps up."""
        claim = self._read(path)
        if claim is None or not self._abandoned(claim):
            return False
        aside = f"{path}.{uuid4().hex[:8]}.abandoned"
        try:
            move(self.fs, path, aside)  # of several who try, one succeeds
        except OSError:
            return False
        if self._read(aside) != claim:  # one that another has made in this moment
            move(self.fs, aside, path)
            return False
        self.fs.rm_file(aside)
        return create(self.fs, path, self._content())

    def _read(self, path: str) -> dict | None:
        try:
            return json.loads(self.fs.cat_file(path))
        except FileNotFoundError:
            return None

    def _content(self) -> bytes:
        me = {"host": socket.gethostname(), "pid": os.getpid(), "process": ME}
        return json.dumps(me | {"time": time.time()}).encode()

    def _abandoned(self, claim: dict) -> bool:
        if time.time() - claim["time"] > self.stale:
            return True
        if claim["host"] != socket.gethostname():
            return False
        if claim["pid"] == os.getpid():
            return claim["process"] != ME  # this one's number, before it was started again
        return not _alive(claim["pid"])

    def renew(self) -> None:
        """Say that this process still works on what it holds."""
        with self._lock:
            for key in self.held:
                path = self._path(key)
                claim = self._read(path)
                if claim and claim["process"] == ME:
                    put(self.fs, path, self._content())

    def release(self, key: str) -> None:
        """Let go of a part."""
        with self._lock:
            self.held.discard(key)
            with suppress(FileNotFoundError):
                self.fs.rm_file(self._path(key))


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
