"""A server of several processes: workers that speak HTTP, and replicas that have the devices.

This process has neither: it starts them, replaces those that end, and brings word from one to all.
"""

import asyncio
import logging
import os
import shutil
import signal
import socket
import tempfile
import time
from collections.abc import Callable, Coroutine
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

from serving import replica, worker
from serving.board import Board
from serving.children import Child
from serving.chips import Share, shares
from serving.config import LoraModule, Options
from serving.errors import APIError
from serving.listening import listening
from serving.wire import Answer

log = logging.getLogger("jaxpool.serving")

ATTEMPTS = 3  # to start a process, each of which ends before it does its work
PAUSE, LONGEST = 1.0, 60.0  # seconds until a replica is started again, doubled each time
LEAVE = 10.0  # seconds a process has to end by itself
# A worker never takes a device.
NO_DEVICE = {"JAX_PLATFORMS": "cpu", "CUDA_VISIBLE_DEVICES": "", "TPU_VISIBLE_CHIPS": ""}


class Supervisor:
    """The processes of one server.

    board: the arguments of the `Board` that all share, whose folder has their sockets and counts;
    places: the shares of the devices, one a replica.
    """

    def __init__(self, options: Options, workers: int, places: list[Share], folder: Path):
        most = max(options.max_loras, len(options.lora_modules))
        self.options = options.model_copy(update={"max_loras": most})
        self.places, self.folder, self.since = places, folder, int(time.time())
        self.board = (folder / "board", workers, len(places), len(options.models))
        self.numbers = Board(*self.board)
        self.doors = listening(options, workers)
        self.sockets = [self._socket(i) for i in range(len(places))]
        self.workers: dict[int, Child] = {}
        self.replicas: dict[int, Child] = {}
        self.adapters = {one.name: (one, self.since) for one in options.lora_modules}
        self.changing = asyncio.Lock()  # held while adapters are loaded or unloaded
        self.served = False  # some replica has been ready
        self.failures: dict[str, int] = {}  # since a process of that name was ready
        self.stopping, self.reason = asyncio.Event(), ""
        self.tasks: set[asyncio.Task] = set()

    def _socket(self, index: int) -> socket.socket:
        """Where a replica listens; it is there while one that has ended is being replaced."""
        made = socket.socket(socket.AF_UNIX)
        made.bind(str(self.folder / f"{index}.sock"))
        made.listen()
        made.setblocking(False)
        return made

    async def run(self) -> int:
        """Serve until a signal, then drain: 0; or until it cannot go on: 1."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self.stopping.set)
        for index in range(len(self.places)):
            await self._start_replica(index)
        for index in range(len(self.doors)):
            await self._start_worker(index)
        await self.stopping.wait()
        if self.reason:
            log.critical("the server ends: %s", self.reason)
        await self._stop()
        return 1 if self.reason else 0

    async def _stop(self) -> None:
        """Let the workers answer what they have, then end the replicas."""
        for task in self.tasks:
            task.cancel()
        for door in (door for doors in self.doors for door in doors):
            door.close()  # when the workers have closed it too, nobody can connect
        for child in self.workers.values():
            child.process.terminate()
        drained = self.options.drain_timeout + LEAVE
        await asyncio.gather(*(child.leave(drained) for child in self.workers.values()))
        for child in self.replicas.values():
            child.line.close()
        await asyncio.gather(*(child.leave(LEAVE) for child in self.replicas.values()))

    async def _start_worker(self, index: int) -> None:
        child = self.workers[index] = Child(f"worker-{index}")

        async def listens() -> dict:
            self._is_ready(child)
            return self.adapters

        answers: dict[str, Answer] = {
            "listening": listens,
            "load": partial(self._whole, self._load),
            "unload": partial(self._whole, self._unload),
            "answering": self._answering,
            "processes": self._processes,
        }
        given = (self.options, index, self.board, self.since, self.served, self.doors[index])
        environment = NO_DEVICE | self._counts
        await child.start(worker.main, given, environment, answers, self._worker_ended)

    async def _start_replica(self, index: int) -> None:
        child = self.replicas[index] = Child(f"replica-{index}")
        known = dict(self.adapters)

        async def loaded() -> None:
            await self._equal(child, known)

        async def failed(reason: str) -> None:
            child.reason = reason

        share = self.places[index]
        answers: dict[str, Answer] = {"ready": loaded, "failed": failed}
        modules = [module for module, _ in known.values()]
        options = self.options.model_copy(update={"lora_modules": modules})
        given = (options, index, self.board, share.cores, self.sockets[index])
        environment = {**share.environment, **self._counts}
        await child.start(replica.main, given, environment, answers, self._replica_ended)

    @property
    def _counts(self) -> dict[str, str]:
        """Where prometheus_client keeps what the processes count."""
        return {"PROMETHEUS_MULTIPROC_DIR": str(self.folder)}

    def _is_ready(self, child: Child) -> None:
        child.ready = True
        self.failures.pop(child.name, None)

    def _worker_ended(self, child: Child) -> None:
        """Replace it: only its own requests have failed."""
        if self.stopping.is_set():
            return
        index = next(i for i, one in self.workers.items() if one is child)
        self.numbers.sent[index] = 0
        log.error("%s ended %s; another takes its place", child.name, child.how)
        if self._often(child):
            return self._end(f"{child.name} ended {child.how}, {ATTEMPTS} times")
        self._later(0, self._start_worker, index)

    def _replica_ended(self, child: Child) -> None:
        """Replace it while the others serve; the only one's end is that of the server."""
        if self.stopping.is_set():
            return
        why = f"{child.name} ended {child.how}" + f" ({child.reason})" * bool(child.reason)
        if len(self.replicas) == 1 or not self.served:
            return self._end(why)
        index = next(i for i, one in self.replicas.items() if one is child)
        self._often(child)
        pause = min(PAUSE * 2 ** (self.failures[child.name] - 1), LONGEST)
        log.error("%s; another takes its place in %g s", why, pause)
        self._later(pause, self._start_replica, index)

    def _often(self, child: Child) -> bool:
        """Whether processes of that name ended too often without having been ready."""
        self.failures[child.name] = self.failures.get(child.name, 0) + 1
        return self.failures[child.name] >= ATTEMPTS

    def _later(self, seconds: float, start: Callable, index: int) -> None:
        async def wait() -> None:
            await asyncio.sleep(seconds)
            await start(index)

        self._run(wait())

    def _run(self, work: Coroutine) -> asyncio.Task:
        """A task that is kept until it is done."""
        task = asyncio.ensure_future(work)
        self.tasks.add(task)
        task.add_done_callback(self.tasks.discard)
        return task

    def _end(self, reason: str) -> None:
        self.reason = reason
        self.stopping.set()

    async def _equal(self, child: Child, known: dict) -> None:
        """Give a replica that was started with some adapters those that the others have now."""
        async with self.changing:
            for name in known.keys() - self.adapters.keys():
                await child.line.call("unload", name)
            for name, (module, since) in self.adapters.items():
                if known.get(name) != (module, since):
                    if name in known:
                        await child.line.call("unload", name)
                    await child.line.call("load", module)
            self.served = True
            self._is_ready(child)

    @property
    def _ready(self) -> list[Child]:
        """The replicas that serve."""
        return [child for child in self.replicas.values() if child.ready]

    async def _whole(self, change: Callable, *given: Any) -> None:
        """Make a change to its end, even if the worker that asked for it ends meanwhile."""
        await asyncio.shield(self._run(change(*given)))

    async def _load(self, module: LoraModule) -> None:
        """Load an adapter in all replicas or in none, then tell the workers."""
        async with self.changing:
            if not self._ready:
                raise APIError(503, "The engine is dead")
            done: list[Child] = []
            try:
                for child in self._ready:
                    with suppress(ConnectionError):  # it starts anew, with this adapter
                        await child.line.call("load", module)
                        done.append(child)
            except APIError:
                for child in done:
                    await child.line.call("unload", module.name)
                raise
            self.adapters[module.name] = (module, int(time.time()))
            await self._tell()

    async def _unload(self, name: str) -> None:
        """Let the workers take no more requests for an adapter, then unload it."""
        async with self.changing:
            if name not in self.adapters:
                raise APIError(404, f"The lora adapter '{name}' cannot be found.")
            del self.adapters[name]
            await self._tell()
            for child in self._ready:
                with suppress(ConnectionError):
                    await child.line.call("unload", name)

    async def _tell(self) -> None:
        """Tell the workers of the adapters, and wait until they know."""
        await self._ask_workers("adapt", self.adapters)

    async def _answering(self) -> int:
        """Requests being answered by all workers."""
        return sum(await self._ask_workers("answering"))

    async def _ask_workers(self, name: str, *given: Any) -> list:
        """What the workers answer, but for those that end meanwhile."""
        lines = [child.line for child in self.workers.values() if child.ready]
        asked = (line.call(name, *given) for line in lines)
        found = await asyncio.gather(*asked, return_exceptions=True)
        return [one for one in found if not isinstance(one, BaseException)]

    async def _processes(self) -> dict[str, int]:
        """The processes that run, by name."""
        children = [*self.workers.values(), *self.replicas.values()]
        running = {c.name: c.process.pid for c in children if not c.gone.is_set()}
        return {"supervisor": os.getpid()} | running


def supervise(options: Options, workers: int) -> int:
    """Serve with processes of their own for HTTP and for the devices."""
    if options.distributed:
        raise SystemExit("jaxpool serve: --distributed has no --api-workers and no --replicas")
    folder = Path(tempfile.mkdtemp(prefix="jaxpool-"))  # for this user alone
    try:
        return asyncio.run(_run(options, workers, folder))
    finally:
        shutil.rmtree(folder, ignore_errors=True)


async def _run(options: Options, workers: int, folder: Path) -> int:
    return await Supervisor(options, workers, shares(options), folder).run()
