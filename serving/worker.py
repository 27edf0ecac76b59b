"""A process that speaks HTTP: everything of a request but its computation."""

import asyncio
import os
import socket
from pathlib import Path

from serving.app import create_app
from serving.board import Board
from serving.config import Options
from serving.logs import configure_logs
from serving.process import configure_process
from serving.remote import Remote
from serving.running import Server, configured, serve
from serving.service import Service
from serving.wire import Answer, Line


class Worker(Server):
    """Tells the process that started it when it listens, and ends with that."""

    def __init__(self, service: Service, remote: Remote):
        super().__init__(configured(service.options, create_app(service.options, service)))
        self.service, self.remote = service, remote

    async def run_until_told(self, doors: list[socket.socket], line: socket.socket) -> None:
        """Serve until a signal."""
        loop = asyncio.get_running_loop()
        answers: dict[str, Answer] = {"adapt": self.remote.adapt, "answering": self._answering}
        _, self.remote.parent = await loop.create_unix_connection(
            lambda: Line(answers, self._orphaned), sock=line
        )
        await serve(self, self.service.models, doors)

    async def startup(self, sockets=None):
        """Listen, and say so."""
        await super().startup(sockets)
        assert self.remote.parent is not None
        await self.remote.adapt(await self.remote.parent.call("listening"))

    async def _answering(self) -> int:
        return self.service.active

    def _orphaned(self) -> None:
        self.should_exit = True


def main(
    options: Options,
    index: int,
    board: tuple,
    since: int,
    replaces: bool,
    doors: list[socket.socket],
    line: socket.socket,
) -> None:
    """The process."""
    configure_logs(options)
    configure_process()
    path: Path = board[0]
    remote = Remote(options, index, path.parent, Board(*board), since, replaces)
    service = Service(options, remote)
    worker = Worker(service, remote)
    with asyncio.Runner(loop_factory=worker.config.get_loop_factory()) as runner:
        runner.run(worker.run_until_told(doors, line))
    os._exit(1 if service.models.error else 0)
