"""The devices of other processes, as a worker sees them."""

import asyncio
import logging
import socket
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from prometheus_client import CollectorRegistry, PlatformCollector, ProcessCollector
from prometheus_client.exposition import generate_latest
from prometheus_client.multiprocess import MultiProcessCollector

from serving import ring
from serving.board import Board
from serving.config import LoraModule, Options
from serving.device import Dead
from serving.errors import APIError
from serving.job import Job
from serving.metrics import Metrics
from serving.models import Registry, Served, served_names, template
from serving.process import keep_out_of_collections
from serving.queue import FIRST_RATE, admit
from serving.wire import Line

log = logging.getLogger("jaxpool.serving")

PAUSE = 0.1  # seconds until a replica that has ended is looked for again
PATIENCE = 2  # seconds to answer with the values of gauges
LONGEST = 60  # seconds until models are there


class Interrupted(APIError):
    """The process that computed this has ended."""

    def __init__(self):
        super().__init__(503, "The engine has ended meanwhile; ask again", retry_after=1)


class Remote:
    """The models of a server on the devices of its replicas (see `devices.Devices`).

    index: of this worker; folder: where the sockets of the replicas and the metrics are; since:
    when the server was started; replaces: whether this worker takes the place of another; parent:
    the line to the process that started this one; adapters: those that are loaded.
    """

    def __init__(
        self, options: Options, index: int, folder: Path, board: Board, since: int, replaces: bool
    ):
        self.options, self.folder, self.since, self.replaces = options, folder, since, replaces
        self.models = Registry(options)
        self.metrics = Metrics(lambda: ())
        self.sent, self.queued = board.sent[index], board.queued
        self.everyone = board.sent
        self.sent[:] = 0
        self.limit = -(-options.max_queued_tokens // len(board.queued))
        self.lines: dict[int, Line] = {}  # of the replicas that answer
        self.parent: Line | None = None
        self.adapters: dict[str, tuple[LoraModule, int]] = {}
        self.there = asyncio.Event()  # the models are
        self._described: asyncio.Future | None = None
        self._keeping: list[asyncio.Task] = []

    def start(self) -> None:
        """Read the files of the models, and connect with the replicas."""
        self._described = asyncio.ensure_future(asyncio.to_thread(self._describe))
        self._keeping = [asyncio.ensure_future(self._keep(i)) for i in range(len(self.queued))]

    async def settled(self) -> None:
        """Wait for the models, if this worker takes the place of one that had them."""
        if self.replaces:
            async with asyncio.timeout(LONGEST):
                await self.there.wait()

    async def stop(self) -> None:
        """Leave the replicas."""
        for task in self._keeping:
            task.cancel()
        for line in self.lines.values():
            line.close()

    def _describe(self) -> list:
        from serving.loading import describe_model

        pairs = zip(self.options.models, served_names(self.options), strict=True)
        return [describe_model(path, self.options, names[0]) for path, names in pairs]

    async def _keep(self, index: int) -> None:
        """Stay connected with a replica, and with the one that takes its place."""
        while True:
            lost = asyncio.Event()
            try:
                line = await self._connect(index, lost)
                facts = await line.call("facts")
                await self._serve(facts)
                self.lines[index] = line
                await lost.wait()
            except OSError:
                pass
            except Exception as error:
                self.models.error = f"{type(error).__name__}: {error}"
                log.critical("cannot read the model", exc_info=error)
                return
            finally:
                self.lines.pop(index, None)
            await asyncio.sleep(PAUSE)

    async def _connect(self, index: int, lost: asyncio.Event) -> Line:
        """A line to a replica, which answers once its models are loaded."""
        made, memories = socket.socket(socket.AF_UNIX), [ring.memory(), ring.memory()]
        try:
            made.connect(str(self.folder / f"{index}.sock"))
            socket.send_fds(made, [b"worker"], memories)
        except OSError:
            made.close()
            raise
        finally:
            mine, theirs = map(ring.mapped, memories)
        made.setblocking(False)
        line = Line({}, lost.set, (mine, theirs))
        await asyncio.get_running_loop().create_unix_connection(lambda: line, sock=made)
        return line

    async def _serve(self, facts: list) -> None:
        """Tell the routes of the models, once they are there."""
        assert self._described is not None
        described = await self._described
        if self.models.served:
            return
        names = served_names(self.options)
        found = zip(self.options.models, names, described, facts, strict=True)
        self.models.served += [
            Served(
                own,
                path,
                replace(model, arch=fact.arch),
                fact.budget,
                fact.fingerprint,
                chat_template=template(self.options),
                created=self.since,
            )
            for path, own, model, fact in found
        ]
        self._adapt()
        keep_out_of_collections()
        self.there.set()

    async def adapt(self, adapters: dict[str, tuple[LoraModule, int]]) -> None:
        """Take note of the adapters that the replicas have now, and since when."""
        self.adapters = adapters
        self._adapt()

    def _adapt(self) -> None:
        if self.models.served:
            self.models.adapters = {
                name: replace(
                    self.models.find(module.base_model_name).adapted(module), created=since
                )
                for name, (module, since) in self.adapters.items()
            }

    def check(self, served: Served) -> None:
        """Raise `Overloaded` if a job that arrives now would be refused."""
        tokens, rate = self.queued[self._least_loaded(), self._place(served)]
        admit(int(tokens), self.limit, rate or FIRST_RATE)

    def _place(self, served: Served) -> int:
        return next(i for i, one in enumerate(self.models.served) if one.name == served.label)

    def _least_loaded(self) -> int:
        """The replica with the fewest tokens that were sent to it and are not answered."""
        here = [index for index, line in self.lines.items() if not line.closed]
        if not here:
            raise Dead
        return here[0] if len(here) == 1 else min(here, key=self.everyone.sum(0).__getitem__)

    async def compute(
        self, served: Served, task: Any, requests: Sequence, priority: int, deadline: float
    ) -> Job:
        """The finished job of some requests; cancelling the caller takes back what is queued."""
        from jaxpool.text.packed import pack

        index = self._least_loaded()
        future = asyncio.get_running_loop().create_future()
        job = Job(task, requests, priority, deadline, future, engine=str(index))
        tokens = job.ends[-1]
        self.sent[index] += tokens
        try:
            found = await self.lines[index].call(
                "compute", served.name, task, pack(requests), priority, deadline
            )
        except ConnectionError:
            raise Interrupted from None
        finally:
            self.sent[index] -= tokens
        results, job.times.started, job.times.finished = found
        job.results, job.missing = list(results), 0
        return job

    async def probe(self) -> None:
        """Pass through the devices of every replica; those that start anew do not count."""
        if not self.lines:
            raise Dead
        await asyncio.gather(*(line.call("probe") for line in self.lines.values()))

    async def load_adapter(self, module: LoraModule) -> None:
        """Load an adapter in every replica, and tell every worker."""
        await self._up.call("load", module)

    async def unload_adapter(self, name: str) -> None:
        """Let every worker forget an adapter, and then every replica."""
        await self._up.call("unload", name)

    async def answering(self, active: int) -> int:
        """Requests being answered by all workers."""
        return await self._up.call("answering")

    @property
    def _up(self) -> Line:
        assert self.parent is not None
        return self.parent

    async def page(self) -> bytes:
        """The counts of all processes, and the gauges of those that answer now."""
        processes = await self._up.call("processes")
        asked = [asyncio.wait_for(line.call("gauges"), PATIENCE) for line in self.lines.values()]
        found = await asyncio.gather(*asked, return_exceptions=True)
        gauges = [one for one in found if isinstance(one, list)]
        return await asyncio.to_thread(self._page, processes, gauges)

    def _page(self, processes: dict[str, int], gauges: list) -> bytes:
        registry = CollectorRegistry()
        MultiProcessCollector(registry, str(self.folder))
        PlatformCollector(registry=registry)
        registry.register(Merged([*gauges, *_own(processes)]))
        return generate_latest(registry)


def _own(processes: dict[str, int]) -> list:
    """The metrics of some processes themselves, each under its name."""
    found = []
    for name, pid in processes.items():
        families = list(ProcessCollector(pid=partial(int, pid), registry=None).collect())
        for family in families:
            family.samples = [s._replace(labels={"process": name}) for s in family.samples]
        found.append(families)
    return found


class Merged:
    """The families of several collectors, each name once."""

    def __init__(self, several: list):
        self.several = several

    def describe(self):
        """Nothing is known before."""
        return []

    def collect(self):
        """The families."""
        merged: dict = {}
        for family in (family for one in self.several for family in one):
            merged.setdefault(family.name, family)
            if merged[family.name] is not family:
                merged[family.name].samples.extend(family.samples)
        return list(merged.values())
