"""Devices behind the sockets and the memory of a server of several processes, in this one."""

import asyncio
import socket
import tempfile
from pathlib import Path

from serving.board import Board
from serving.remote import Remote
from serving.replica import TICK, Replica


class Apart(Remote):
    """What a worker sees, with the replica it talks to."""

    def __init__(self, options):
        folder = Path(tempfile.mkdtemp(prefix="apart-"))
        board = Board(folder / "board", 1, 1, len(options.models))
        super().__init__(options, 0, folder, board, since=0, replaces=False)
        self.replica = Replica(options, 0, board)
        self.listener = socket.socket(socket.AF_UNIX)
        self.listener.bind(str(folder / "0.sock"))
        self.listener.listen()
        self.listener.setblocking(False)

    def start(self):
        """Start both."""
        self.replica.local.start()
        self.listening = asyncio.ensure_future(self._listen())
        super().start()

    async def _listen(self):
        while self.replica.local.models.state == "starting":
            await asyncio.sleep(TICK)
        self.models.error = self.replica.local.models.error
        self.replica.listen(self.listener)

    async def stop(self):
        """End both."""
        await super().stop()
        await self.replica.local.stop()
