"""`jaxpool run-batch`: a file of requests through the application, without a socket.

A line is OpenAI's: `{"custom_id": ..., "method": "POST", "url": "/v1/embeddings", "body": {...}}`.
Each is answered by the routes of the server, in the order of the file.
"""

import asyncio
from collections.abc import Awaitable
from dataclasses import dataclass
from typing import Any

import orjson

from serving.app import create_app
from serving.config import Options
from serving.lines import answers, call
from serving.service import Service

POLL = 0.05  # seconds between looks at a model that loads
UNLIMITED = 2**62  # a file waits its turn: nothing is refused for being too much at once


@dataclass
class Told:
    """How many requests were answered, and how many with an error."""

    answered: int = 0
    failed: int = 0


def run_file(model: str, source: str, target: str, concurrency: int, **options: Any) -> Told:
    """Answer every line of `source` in `target` (paths or fsspec URLs), `concurrency` at once.

    The file appears when it is whole. options: those of the server.
    """
    from jaxpool.jobs.files import place, written

    if concurrency < 1:
        raise ValueError(f"--concurrency must be at least 1, got {concurrency}")
    fixed: dict = {"models": [model], "warmup": "none", "max_queued_tokens": UNLIMITED}
    service = Service(Options(**fixed, max_body_bytes=UNLIMITED, **options))
    fs, path = place(source)
    if not fs.exists(path):
        raise FileNotFoundError(f"no such file: {source}")
    out, out_path = place(target)
    with fs.open(path, "rb") as lines, written(out, out_path) as file:
        return asyncio.run(_run(service, lines, file, concurrency))


async def _run(service: Service, lines: Any, file: Any, concurrency: int) -> Told:
    app, told = create_app(service.options, service), Told()

    def ask(method: str, url: str, body: dict, name: str) -> Awaitable[tuple[int, bytes]]:
        return call(app, method, url, orjson.dumps(body), name)

    service.start()
    try:
        while service.models.state == "starting":
            await asyncio.sleep(POLL)
        if service.models.error:
            raise RuntimeError(service.models.error)
        async for answer in answers(ask, lines, concurrency):
            told.answered += answer["error"] is None
            told.failed += answer["error"] is not None
            file.write(orjson.dumps(answer) + b"\n")
    finally:
        await service.stop()
    return told
