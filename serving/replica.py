"""A process with devices: it loads the models and computes the jobs that workers send."""

import asyncio
import logging
import os
import signal
import socket
from collections.abc import Collection, Sequence
from typing import Any, NamedTuple

import numpy as np
import uvloop

from serving.board import Board
from serving.config import Options
from serving.local import Local
from serving.logs import configure_logs
from serving.process import configure_process
from serving.ring import mapped
from serving.wire import Answer, Line

log = logging.getLogger("jaxpool.serving")

TICK = 0.05  # seconds between looks at the models and the device
HELLO = 64  # bytes that a worker sends with its memory


class Facts(NamedTuple):
    """What a worker has to know of a model, and finds in no file."""

    arch: Any
    budget: int
    fingerprint: str | None


class Replica:
    """Answers the lines of the workers, and that of the process which started it."""

    def __init__(self, options: Options, index: int, board: Board):
        limit = -(-options.max_queued_tokens // len(board.queued))
        self.local, self.board = Local(options, limit, str(index)), board.queued[index]
        self.connecting: set[asyncio.Task] = set()
        self.answers: dict[str, Answer] = {
            "facts": self.facts,
            "compute": self.compute,
            "probe": self.local.probe,
            "gauges": self.gauges,
        }

    async def facts(self) -> list[Facts]:
        """Those of each model."""
        return [Facts(s.model.arch, s.budget, s.fingerprint) for s in self.local.models.served]

    async def compute(
        self, name: str, task: Any, packed: tuple, priority: int, deadline: float
    ) -> tuple:
        """The results of some requests for a model, or an adapter, and when they were computed."""
        from jaxpool.text.packed import unpack

        served = self.local.models.find(name)
        job = await self.local.compute(served, task, unpack(packed), priority, deadline)
        self.tell()
        return stacked(job.results), job.times.started, job.times.finished

    async def gauges(self) -> list:
        """The present values of metrics."""
        return list(self.local.metrics.live.collect())

    def tell(self) -> None:
        """Write how long the queues are."""
        for place, served in enumerate(self.local.models.served):
            self.board[place] = served.queue.tokens, served.queue.rate

    async def run(self, listener: socket.socket, line: socket.socket) -> int:
        """Serve until the process that started this one has ended; 1 if the models are not loaded.

        2 if the device thread has ended by itself.
        """
        loop, ended = asyncio.get_running_loop(), asyncio.Event()
        asked: dict[str, Answer] = {
            "load": self.local.load_adapter,
            "unload": self.local.unload_adapter,
        }
        _, parent = await loop.create_unix_connection(lambda: Line(asked, ended.set), sock=line)
        self.local.start()
        while self.local.models.state == "starting" and not ended.is_set():
            await asyncio.sleep(TICK)
        if error := self.local.models.error:
            await parent.call("failed", error)
            return 1
        if not ended.is_set():
            await parent.call("ready")
        self.listen(listener)
        while not ended.is_set() and not self.local.owner.dead:
            self.tell()
            await asyncio.sleep(TICK)
        await self.local.stop()
        return 0 if ended.is_set() else 2

    def listen(self, listener: socket.socket) -> None:
        """Answer the workers that connect, and those that wait for it already."""
        asyncio.get_running_loop().add_reader(listener, self._accept, listener)

    def _accept(self, listener: socket.socket) -> None:
        """Take the line of a worker, with the memory it brings."""
        made, _ = listener.accept()
        made.settimeout(1)
        try:
            _, descriptors, _, _ = socket.recv_fds(made, HELLO, 2)
            theirs, mine = map(mapped, descriptors)
        except (OSError, ValueError):  # it has ended meanwhile
            made.close()
            return
        loop, line = asyncio.get_running_loop(), Line(self.answers, rings=(mine, theirs))
        task = loop.create_task(loop.create_unix_connection(lambda: line, sock=made))
        self.connecting.add(task)
        task.add_done_callback(self.connecting.discard)


def stacked(results: Sequence) -> Any:
    """Results of one shape as one array; others as they are."""
    first = results[0]
    alike = isinstance(first, np.ndarray) and all(
        isinstance(one, np.ndarray) and one.shape == first.shape and one.dtype == first.dtype
        for one in results
    )
    return np.stack(results) if alike else list(results)


def main(
    options: Options,
    index: int,
    board: tuple,
    cores: Collection[int] | None,
    listener: socket.socket,
    line: socket.socket,
) -> None:
    """The process; signals are for the one that started it, which then needs the results."""
    if cores is not None:
        os.sched_setaffinity(0, cores)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, signal.SIG_IGN)
    configure_logs(options)
    configure_process()
    replica = Replica(options, index, Board(*board))
    code = uvloop.run(replica.run(listener, line))
    logging.shutdown()
    os._exit(code)  # whatever its threads are at
