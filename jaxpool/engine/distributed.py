"""Several processes that run one model together, each with devices of its own.

Offline every process makes the same calls. A server has one that is called, the leader: it tells
the followers what its device is about to run, and they run it too.
"""

import secrets
from collections import deque
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from multiprocessing.connection import Client, Connection, Listener
from threading import Lock
from typing import Any, Protocol

import jax
import numpy as np
from jax.experimental.multihost_utils import broadcast_one_to_all, process_allgather

from jaxpool.engine.planner import IN_FLIGHT

MANUAL = '{"coordinator_address": "10.0.0.1:1234", "num_processes": 2, "process_id": 0}'


def start(distributed: bool | Mapping[str, Any]) -> None:
    """Join the other processes through `jax.distributed`, unless that is done already.

    True finds them by itself on TPU pods, under Slurm, Open MPI and Kubernetes; elsewhere a
    mapping gives the arguments of `jax.distributed.initialize`. It comes before anything that
    uses a device. Every process then makes the same calls, and each gets all results.
    """
    if not distributed or jax.distributed.is_initialized():
        return
    try:
        jax.distributed.initialize(**({} if distributed is True else distributed))
    except ValueError as error:
        raise ValueError(
            f"distributed={distributed!r} does not say which processes there are ({error}); "
            f"outside a TPU pod, Slurm, Open MPI and Kubernetes pass distributed={MANUAL}"
        ) from error


def all_agree(mine: bool) -> bool:
    """Whether every process says True; each must ask, and waits for the others."""
    return bool(process_allgather(np.array(mine)).all())


class Leader:
    """The first process's connections to all others; created in every process at the same point.

    Orders go over sockets rather than device collectives: a follower that waits occupies no device,
    and one that has ended is noticed.
    """

    def __init__(self):
        secret = secrets.token_bytes(32)
        with Listener(("", 0), authkey=secret) as listener:
            _agree(secret, listener.address[1])
            self.followers = [listener.accept() for _ in range(jax.process_count() - 1)]
        self._lock = Lock()

    def order(self, model: int, *what: Any) -> None:
        """Tell every follower what to compile (a key) or run (chains, batch, controls)."""
        with self._lock:
            for follower in self.followers:
                follower.send((model, *what))

    def check(self) -> None:
        """Raise ConnectionError if a follower has ended: they never send anything else."""
        if any(follower.poll() for follower in self.followers):
            raise ConnectionError("a process of this server has ended")

    def close(self) -> None:
        """Let the followers end."""
        for follower in self.followers:
            follower.close()


def leader_line() -> Connection:
    """A follower's connection to the leader, which creates its `Leader` at the same time."""
    from jax._src.distributed import global_state  # has no public name

    secret, port = _agree(bytes(32), 0)
    host = str(global_state.coordinator_address).rpartition(":")[0].strip("[]")
    return Client((host, port), authkey=secret)


def _agree(secret: bytes, port: int) -> tuple[bytes, int]:
    """What the first process says, in all of them."""
    said = broadcast_one_to_all((np.frombuffer(secret, np.uint8), np.int32(port)))
    return said[0].astype(np.uint8).tobytes(), int(said[1])


class Runner(Protocol):
    """What a follower needs of an `Executor`."""

    def compiled(self, key: Any) -> Any:
        """Compile a program."""

    def __call__(self, chains: Any, batch: Any, controls: Any) -> Any:
        """Run it on a batch."""


def follow(line: Connection, executors: Sequence[Runner]) -> None:
    """Run what the leader runs, in the same order, until it is gone; compile in another thread."""
    in_flight: deque = deque()
    with line, ThreadPoolExecutor(1) as compiler:
        while True:
            try:
                model, *what = line.recv()
            except (EOFError, ConnectionError):
                return
            if len(what) == 1:
                compiler.submit(executors[model].compiled, *what)
                continue
            in_flight.append(executors[model](*what))
            if len(in_flight) > IN_FLIGHT:
                jax.block_until_ready(in_flight.popleft())
