"""Processes that a server starts: each with a line to it, and told from others by its name."""

import asyncio
import logging
import os
import signal
import socket
from collections.abc import Callable, Mapping
from contextlib import contextmanager
from multiprocessing import get_context
from typing import Any

from serving.wire import Answer, Line

log = logging.getLogger("jaxpool.serving")

SPAWN = get_context("spawn")  # nothing of the parent but what it is given


class Child:
    """A process, the line to it, and whether it does its work yet."""

    def __init__(self, name: str):
        self.name = name
        self.process: Any = None
        self.line: Line = Line({})
        self.ready, self.reason = False, ""
        self.gone = asyncio.Event()

    async def start(
        self,
        target: Callable,
        given: tuple,
        environment: Mapping[str, str],
        answers: dict[str, Answer],
        ended: Callable[["Child"], None],
    ) -> None:
        """Run `target(*given, line)`; `ended` is called when the process is no more."""
        loop = asyncio.get_running_loop()
        mine, theirs = socket.socketpair()
        self.process = SPAWN.Process(target=target, args=(*given, theirs), name=self.name)
        with changed(environment):
            self.process.start()
        theirs.close()
        log.info("%s is process %d", self.name, self.process.pid)
        loop.add_reader(self.process.sentinel, self._ended, ended)
        self.line = Line(answers)
        await loop.create_unix_connection(lambda: self.line, sock=mine)

    def _ended(self, ended: Callable[["Child"], None]) -> None:
        asyncio.get_running_loop().remove_reader(self.process.sentinel)
        self.process.join()
        self.line.close()
        self.ready = False
        self.gone.set()
        ended(self)

    @property
    def how(self) -> str:
        """How it ended."""
        code = self.process.exitcode
        return f"by {signal.Signals(-code).name}" if code < 0 else f"with code {code}"

    async def leave(self, seconds: float) -> None:
        """Wait until it has ended; kill it if that takes longer."""
        try:
            async with asyncio.timeout(seconds):
                await self.gone.wait()
        except TimeoutError:
            self.process.kill()
            await self.gone.wait()


@contextmanager
def changed(environment: Mapping[str, str]):
    """Other variables for what starts meanwhile."""
    before = {name: os.environ.get(name) for name in environment}
    os.environ.update(environment)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value
