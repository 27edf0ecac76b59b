"""The engine: requests into planned batches, batches through executables, results back in order."""

import logging
import os
import threading
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any

import jax
import numpy as np

from jaxpool.engine import batch as batching
from jaxpool.engine import distributed, joined, pictures, planner
from jaxpool.engine.batch import Plan, Request
from jaxpool.engine.bucketing import FINE, bucketing, budget, call_tokens
from jaxpool.engine.executor import Executor, Key
from jaxpool.engine.programs import Programs, chains_of
from jaxpool.engine.shared_prefix import plan_shared
from jaxpool.heads import queries
from jaxpool.heads.steps import Chains, pools_slots
from jaxpool.nn import quantization
from jaxpool.tasks.task import Task

log = logging.getLogger("jaxpool")

DISPATCHERS = 2  # on CPU a dispatch computes in its own thread: two keep all cores busy


@dataclass(frozen=True)
class EngineOptions:
    """How a model is run.

    max_num_batched_tokens: tokens of a batch (None: by platform); warmup: at load, compile every
    shape of these tasks ("embed", "embed:int8" in that precision, "embed&sparse" for both from one
    forward; True: all tasks, in any combination); forbid_compiles: after loading, a shape without
    an executable is an error; batch_invariant: a text's result is bit-identical whatever else is in
    its batch, at the price of padding; compiled: a folder of `jaxpool compile`;
    quantization: a key of `jaxpool.nn.quantization.KINDS`; tensor_parallel_size,
    data_parallel_size: the mesh (by default one device of one process, all of several);
    distributed: this process is one of several (see `jaxpool.engine.distributed`);
    enable_lora: requests may choose adapters (see `jaxpool.loras`), of which max_loras are loaded
    at a time, of ranks up to max_lora_rank.
    """

    max_num_batched_tokens: int | None = None
    warmup: bool | tuple[str, ...] = False
    forbid_compiles: bool = False
    batch_invariant: bool = False
    compiled: str | None = None
    quantization: str | None = None
    tensor_parallel_size: int = 1
    data_parallel_size: int | None = None
    distributed: bool | Mapping[str, Any] = False
    enable_lora: bool = False
    max_loras: int = 1
    max_lora_rank: int = 16

    def __post_init__(self):
        quantization.check(self.quantization)


@dataclass(frozen=True)
class InFlight:
    """Requests whose batches were dispatched.

    batches: each plan with the future of its outputs, one array a chain of steps; count: how many
    of the requests the caller passed (shared prefixes come after them).
    """

    task: Task | tuple[Task, ...]
    requests: Sequence[Request]
    batches: list[tuple[Plan, Future]]
    count: int


class Engine:
    """Plans, compiles and runs the batches of one model. Safe for threads.

    Every method that takes a task also takes a tuple of tasks: each request then has a tuple of
    results, all from one forward. `real_tokens` and `computed_tokens` (with padding) count the
    tokens and patches that were dispatched. The engine of a vision tower takes requests of
    pictures of up to `max_length` patches; where pictures stand among texts, rows have both.
    """

    def __init__(
        self, executor: Executor, max_length: int, options: EngineOptions, programs: Programs
    ):
        self.executor, self.options = executor, options
        # With one text a row, packing cannot reduce padding; finer buckets can.
        steps = FINE if options.batch_invariant else bucketing().steps
        tower = executor.arch.patches is not None
        least = max_length if not executor.packed else planner.PACKED if tower else planner.SHORTEST
        self.buckets = planner.bucket_lengths(max_length, steps, least)
        self.multiple = executor.mesh.shape["data"]
        self.weight = joined.weight(executor.arch)
        self.budget = budget(options.max_num_batched_tokens, max_length, tower) // self.weight
        self.call = call_tokens(executor.params, executor.arch)
        self.programs = programs
        self.real_tokens = self.computed_tokens = 0
        self._lock = threading.Lock()

    @property
    def shapes(self) -> list[tuple[int, int]]:
        """Every `(rows, length)` of this engine."""
        shapes = planner.full_shapes if self.options.batch_invariant else planner.shapes
        return shapes(self.buckets, self.budget, self.multiple)

    def plan(
        self, requests: Sequence[Request], program: Chains = ()
    ) -> tuple[list[Plan], Sequence[Request]]:
        """The batches in which a program serves some requests, and these as they are laid out.

        Where several begin with the same tokens, their prefix is a further request at the end.
        """
        shape = (self.buckets, self.budget, self.multiple)
        if any(request.shared for request in requests) and not self.options.batch_invariant:
            return plan_shared(requests, *shape, self.executor.arch.dim, self.call)
        alone = self.options.batch_invariant
        how = planner.plan_alone if alone else partial(planner.plan, call=self.call)
        if self.executor.arch.patches:
            least = 0 if self.executor.packed else self.buckets[-1]
            return how(pictures.sizes(requests, self.executor.arch, least), *shape), requests
        plans = []
        for group in queries.groups(requests):
            lengths = [requests[i].length for i in group]
            plans += [p._replace(request=group[p.request]) for p in how(lengths, *shape)]
        if pools_slots(program):
            slots = self.multiple * batching.SLOTS
            plans = [part for p in plans for part in planner.divide(p, slots, self.shapes)]
        return plans, requests

    def dispatch(self, task, plan: Plan, requests: Sequence[Request]) -> tuple[jax.Array, ...]:
        """Start one batch; one output a chain, futures until they are read."""
        chains, program = chains_of(task), self.programs.of(task)
        try:
            outputs = self.executor(program, *self.fill(program, plan, requests))
        except MemoryError:
            self._lower_below(plan)
            raise
        with self._lock:
            self.real_tokens += sum(requests[i].size for i in plan.request)
            self.computed_tokens += plan.rows * plan.length * self.weight
        return tuple(outputs[program.index(steps)] for steps in chains)

    def fill(self, program: Chains, plan: Plan, requests: Sequence[Request]) -> tuple:
        """The arrays that a program takes of a batch: `Batch` and `Controls`."""
        arch = self.executor.arch
        if arch.patches:
            return pictures.fill(plan, requests, arch, self.executor.segments(plan.length))
        reads = self.executor.arguments((program, plan.rows, plan.length))
        if arch.joins:
            return joined.fill(plan, requests, arch, *reads)
        return batching.fill(plan, requests, *reads)

    def start(self, task, requests: Sequence[Request]) -> InFlight:
        """Start all batches of some requests."""
        plans, laid = self.plan(requests, self.programs.of(task))
        submit = self.dispatchers.submit
        batches = [(plan, submit(self.dispatch, task, plan, laid)) for plan in plans]
        return InFlight(task, laid, batches, len(requests))

    def finish(self, started: InFlight) -> list[np.ndarray]:
        """Wait for the results, in the order of the requests."""
        results: list[Any] = [None] * len(started.requests)
        for plan, outputs in started.batches:
            for index, result in _fetch(started.task, plan, outputs.result(), started.requests):
                results[index] = result
        return results[: started.count]

    def run(self, task, requests: Sequence[Request]) -> Iterator[tuple[int, Any]]:
        """Compute a task; yields `(index of the request, result)` as batches finish.

        Where a batch does not fit in memory, what is left is planned again in smaller ones.
        """
        budget, left = self.budget, dict.fromkeys(range(len(requests)))
        try:
            for index, result in self._run(task, requests):
                del left[index]
                yield index, result
        except MemoryError:
            if self.budget == budget:
                raise
            indices = list(left)
            for index, result in self.run(task, [requests[i] for i in indices]):
                yield indices[index], result

    def _run(self, task, requests: Sequence[Request]) -> Iterator[tuple[int, Any]]:
        in_flight: deque = deque()
        plans, laid = self.plan(requests, self.programs.of(task))
        for plan in plans:
            in_flight.append((plan, self.dispatchers.submit(self.dispatch, task, plan, laid)))
            while len(in_flight) > (0 if plan is plans[-1] else planner.IN_FLIGHT):
                plan_done, outputs = in_flight.popleft()
                results = _fetch(task, plan_done, outputs.result(), laid)
                yield from (item for item in results if item[0] < len(requests))

    @cached_property
    def dispatchers(self) -> ThreadPoolExecutor:
        # Programs with collectives must reach all devices in one order: one thread for a mesh.
        return ThreadPoolExecutor(DISPATCHERS if self.executor.mesh.size == 1 else 1)

    def warmup(self, tasks: Sequence[Task | tuple[Task, ...]] | None = None) -> None:
        """Compile every shape of some tasks (None: of all, in any combination), in parallel."""
        self.fit(tasks)
        self._compile(self.keys(tasks))

    def keys(self, tasks: Sequence[Task | tuple[Task, ...]] | None = None) -> list[Key]:
        """The keys of the executables that serve some tasks (None: all) at every shape."""
        return [(each, *shape) for each in self.programs.serving(tasks) for shape in self.shapes]

    def fit(self, tasks: Sequence[Task | tuple[Task, ...]] | None = None) -> None:
        """Halve the token budget until the largest shapes of some tasks fit in memory.

        Those of the program that does most are compiled. Several processes keep one budget, which
        fits in the memory of each.
        """
        chains = max(self.programs.serving(tasks), key=len)
        while not self._fits(chains):
            self._lower(self.budget // 2)

    def _fits(self, chains: Chains) -> bool:
        largest, lack = self._largest, None
        try:
            self._compile([(chains, *shape) for shape in largest])
        except MemoryError as error:
            lack = error
        if distributed.all_agree(lack is None):
            return True
        if all(rows == self.multiple for rows, _ in largest):
            elsewhere = "A batch of {} x {} tokens does not fit in another process's memory"
            raise lack or MemoryError(elsewhere.format(*max(largest)))
        return False

    @property
    def _largest(self) -> set[tuple[int, int]]:
        """The shapes that take most memory: the longest rows, and the rows of most texts."""
        longest = max(self.shapes, key=lambda shape: shape[0] * shape[1] ** 2)
        fullest = max(self.shapes, key=lambda shape: shape[0] * batching.segments_of(shape[1]))
        return {longest, fullest}

    def _compile(self, keys: Sequence[Key]) -> None:
        with ThreadPoolExecutor(os.cpu_count()) as pool:
            list(pool.map(self.executor.compiled, keys))

    def _lower_below(self, plan: Plan) -> None:
        """Keep to smaller batches than one that does not fit.

        Not where results, or what other processes run, depend on the shapes.
        """
        fixed = self.options.batch_invariant or self.executor.mesh.is_multi_process
        with self._lock:
            smaller = plan.rows * plan.length // 2
            if plan.rows > self.multiple and smaller < self.budget and not fixed:
                self._lower(smaller)

    def _lower(self, tokens: int) -> None:
        self.budget = tokens
        log.warning("max_num_batched_tokens lowered to %d: memory", tokens)


def _fetch(task, plan: Plan, outputs, requests) -> Iterator[tuple[int, Any]]:
    if not isinstance(task, tuple):
        yield from batching.unpack(plan, np.asarray(outputs[0]), requests, task.pooled)
        return
    parts = [
        batching.unpack(plan, np.asarray(output), requests, t.pooled)
        for t, output in zip(task, outputs, strict=True)
    ]
    for results in zip(*parts, strict=True):
        yield results[0][0], tuple(result for _, result in results)
