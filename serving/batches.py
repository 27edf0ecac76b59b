"""The work of /v1/batches: the lines of a file, answered by the server's own routes.

A batch is answered in the order of its lines, so the lines that are written say where a server that
was stopped goes on.
"""

import asyncio
import logging
import os
import time
import uuid
from collections.abc import Iterable, Iterator
from contextlib import aclosing
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any, BinaryIO

import orjson
from starlette.types import ASGIApp

from serving.errors import APIError
from serving.lines import answers, call, fault_of
from serving.store import Store, new

log = logging.getLogger("jaxpool.serving")

CONCURRENCY = 32  # lines of a batch that are asked at once
PRIORITY = 1000  # after what clients wait for
PATIENCE = 0.5  # seconds until a line that the server had no room for is asked again
REPORTED = 100  # errors of a file that are told
WINDOW = 24 * 3600  # seconds a batch may take
OPEN = ("validating", "in_progress", "finalizing")


class Batches:
    """Answers one batch after the other while the server runs.

    app: answers the lines; endpoints: the routes a batch may ask.
    """

    def __init__(self, store: Store, app: ASGIApp, endpoints: Iterable[str]):
        self.store, self.app, self.endpoints = store, app, frozenset(endpoints)
        self.tasks: set[asyncio.Task] = set()
        self.turn = asyncio.Semaphore(1)

    def start(self) -> None:
        """Go on with what a server left unfinished."""
        for document in reversed(self.store.all("batch")):
            if document["status"] in OPEN:
                self._begin(document["id"])

    async def stop(self) -> None:
        """Leave what is unfinished to the next server."""
        for task in self.tasks:
            task.cancel()
        await asyncio.gather(*self.tasks, return_exceptions=True)

    def add(self, source: str, endpoint: str, window: str, metadata: dict | None) -> dict:
        """Take a batch on; its document."""
        self.store.get("file", source)
        if endpoint not in self.endpoints:
            message = "endpoint must be a POST route of this server that answers a JSON body"
            raise APIError(400, message, "endpoint")
        begun = int(time.time())
        document: dict = {
            "id": new("batch"),
            "object": "batch",
            "endpoint": endpoint,
            "errors": None,
            "input_file_id": source,
            "completion_window": window,
            "status": "validating",
            "output_file_id": None,
            "error_file_id": None,
            "created_at": begun,
            "expires_at": begun + WINDOW,
            "request_counts": {"total": 0, "completed": 0, "failed": 0},
            "metadata": metadata,
        }
        self.store.put(document)
        self._begin(document["id"])
        return document

    def get(self, name: str) -> dict:
        """The document of a batch."""
        document = self.store.get("batch", name)
        if document["status"] in OPEN and self.store.path(name, "cancel").exists():
            document["status"] = "cancelling"
        return document

    def cancel(self, name: str) -> dict:
        """End a batch after the lines that are being answered."""
        if self.get(name)["status"] in OPEN:
            self.store.path(name, "cancel").touch()
        return self.get(name)

    def _begin(self, name: str) -> None:
        task = asyncio.create_task(self._run(name))
        self.tasks.add(task)
        task.add_done_callback(self.tasks.discard)

    async def _run(self, name: str) -> None:
        async with self.turn:
            with self.store.claim(name) as mine:
                if not mine:  # another process of the server has it
                    return
                document = self.store.get("batch", name)
                if document["status"] not in OPEN:  # another has answered it
                    return
                try:
                    await self._answer(document)
                except Exception as error:  # a full disk, a file that is gone
                    log.exception("batch %s failed", name)
                    self._end(document, "failed", errors=[fault("batch_failed", str(error), None)])

    async def _answer(self, document: dict) -> None:
        source = self.store.path(document["input_file_id"], "data")
        if document["status"] == "validating":
            total, errors = await asyncio.to_thread(check, source, document["endpoint"])
            document["request_counts"]["total"] = total
            if errors:
                return self._end(document, "failed", errors=errors)
            self._put(document, "in_progress")
        parts = [self.store.path(document["id"], part) for part in ("output", "error")]
        if document["status"] == "in_progress":
            await self._write(document, source, *parts)
            self._put(document, "finalizing")
        for key, part in zip(("output", "error"), parts, strict=True):
            document[f"{key}_file_id"] = self._publish(document["id"], key, part)
        self._end(document, self._over(document) or "completed")

    async def _write(self, document: dict, source: Path, output: Path, error: Path) -> None:
        """Answer the lines that have no answer yet."""
        counts, told = document["request_counts"], time.monotonic()
        counts |= {"completed": whole_lines(output), "failed": whole_lines(error)}
        ask = partial(self._ask, document)
        with source.open("rb") as file, output.open("ab") as good, error.open("ab") as bad:
            left = islice(lines_of(file), counts["completed"] + counts["failed"], None)
            async with aclosing(answers(ask, left, CONCURRENCY)) as found:
                async for answer in found:
                    if self._over(document):
                        break
                    key = "completed" if answer["error"] is None else "failed"
                    target = good if answer["error"] is None else bad
                    target.write(orjson.dumps(answer) + b"\n")
                    counts[key] += 1
                    if time.monotonic() > told + 1:
                        told = time.monotonic()
                        self.store.put(document)

    async def _ask(self, document: dict, method: str, url: str, body: dict, name: str) -> Any:
        content = orjson.dumps({"priority": PRIORITY} | body)
        while True:
            status, answer = await call(self.app, method, url, content, name)
            if status not in (429, 503) or self._over(document):
                return status, answer
            await asyncio.sleep(PATIENCE)

    def _over(self, document: dict) -> str | None:
        """Why a batch ends before its last line."""
        if self.store.path(document["id"], "cancel").exists():
            return "cancelled"
        return "expired" if time.time() > document["expires_at"] else None

    def _put(self, document: dict, status: str) -> None:
        document["status"] = status
        document[f"{status}_at"] = int(time.time())
        self.store.put(document)

    def _publish(self, name: str, key: str, part: Path) -> str | None:
        """Make a file of the lines of a batch, none where there are none; once, if asked again."""
        file = f"file-{uuid.uuid5(uuid.NAMESPACE_OID, f'{name}/{key}').hex}"
        data = self.store.path(file, "data")
        if part.exists() and part.stat().st_size:
            os.replace(part, data)
        if not data.exists():
            return None
        return self.store.describe(file, f"{name}_{key}.jsonl", "batch_output")["id"]

    def _end(self, document: dict, status: str, errors: list | None = None) -> None:
        if errors:
            document["errors"] = {"object": "list", "data": errors[:REPORTED]}
        self._put(document, status)
        for kind in ("cancel", "lock", "output", "error"):
            self.store.path(document["id"], kind).unlink(missing_ok=True)


def check(path: Path, endpoint: str) -> tuple[int, list[dict]]:
    """How many lines a file has, and what is wrong with them."""
    seen: set[str] = set()
    errors, total = [], 0
    with path.open("rb") as file:
        for number, line in enumerate(lines_of(file), 1):
            total += 1
            request, wrong = fault_of(line)
            if wrong:
                errors.append(fault("invalid_request", wrong, number))
            elif request["url"] != endpoint:
                wrong = f"url {request['url']!r} is not the batch's endpoint {endpoint!r}"
                errors.append(fault("mismatched_url", wrong, number, "url"))
            elif request["custom_id"] in seen:
                wrong = f"custom_id {request['custom_id']!r} is there twice"
                errors.append(fault("duplicate_custom_id", wrong, number, "custom_id"))
            seen.add(request.get("custom_id", ""))
    if not total:
        errors.append(fault("empty_file", "the file has no lines", None))
    return total, errors


def fault(code: str, message: str, line: int | None, param: str | None = None) -> dict:
    """One error of a batch's file."""
    return {"code": code, "message": message, "line": line, "param": param}


def lines_of(file: BinaryIO) -> Iterator[bytes]:
    """The lines of a file that are not blank."""
    return (line for line in file if not line.isspace())


def whole_lines(path: Path) -> int:
    """How many lines were written; the rest of one that was not finished is cut off."""
    if not path.exists():
        return 0
    with path.open("r+b") as file:
        count = end = 0
        for line in file:
            if line.endswith(b"\n"):
                count, end = count + 1, end + len(line)
        file.truncate(end)
    return count
