"""The queue and the device thread, on an engine of pure Python."""

import asyncio
import threading
import time
from dataclasses import dataclass
from types import SimpleNamespace

import numpy as np
import pytest

from serving.device import Dead, Failed, Owner
from serving.queue import Expired, Overloaded


@dataclass(frozen=True)
class Text:
    """A request of the fake engine: its result is its value."""

    value: float
    size: int = 1

    @property
    def ids(self):
        return np.zeros(self.size, np.int32)


class FakeEngine:
    """Returns each request's value; `gate` holds a batch back, `poison` fails those with it."""

    def __init__(self, budget=8):
        self.budget, self.gate, self.batches = budget, threading.Event(), []
        self.gate.set()
        self.entered = threading.Event()
        self.poison = None

    def start(self, task, requests):
        self.batches.append((task, [request.value for request in requests]))
        return requests

    def finish(self, requests):
        self.entered.set()
        self.gate.wait(10)
        if self.poison in [request.value for request in requests]:
            raise MemoryError("out of memory")
        return [np.array([request.value]) for request in requests]

    def ping(self):
        pass

    def hold(self):
        self.gate.clear()
        self.entered.clear()


@pytest.fixture
def device():
    owner, engine = Owner(), FakeEngine()
    queue = owner.add(engine, limit=100)
    owner.start()
    yield SimpleNamespace(owner=owner, engine=engine, queue=queue)
    engine.gate.set()
    owner.stop()
    owner.join(5)
    assert not owner.is_alive()


async def started(device):
    """Wait until the engine is inside a batch."""
    await asyncio.to_thread(device.engine.entered.wait, 5)


async def queued(device, count):
    """Wait until `count` requests are queued."""
    for _ in range(500):
        if device.queue.requests == count:
            return
        await asyncio.sleep(0.01)
    raise AssertionError(f"{device.queue.requests} requests are queued, not {count}")


def submit(device, *values, task="embed", length=1, **options):
    texts = [Text(value, length) for value in values]
    return asyncio.ensure_future(device.queue.submit(task, texts, **options))


def values(job):
    return [float(result[0]) for result in job.results]


def test_results_come_back_in_order(device):
    async def go():
        return await submit(device, *range(30))

    assert values(asyncio.run(go())) == list(range(30))
    assert max(len(batch) for _, batch in device.engine.batches) == 8
    assert device.queue.tokens == device.queue.requests == device.queue.running == 0


def test_a_batch_forms_while_the_device_is_busy(device):
    async def go():
        device.engine.hold()
        first = submit(device, 0)
        await started(device)
        others = [submit(device, value) for value in (1, 2, 3)]
        await queued(device, 3)
        device.engine.gate.set()
        await asyncio.gather(first, *others)

    asyncio.run(go())
    assert device.engine.batches == [("embed", [0]), ("embed", [1, 2, 3])]


def test_batches_hold_one_task(device):
    async def go():
        device.engine.hold()
        first = submit(device, 0)
        await started(device)
        jobs = [submit(device, i, task=task) for i, task in enumerate("abab", start=1)]
        await queued(device, 4)
        device.engine.gate.set()
        await asyncio.gather(first, *jobs)

    asyncio.run(go())
    assert device.engine.batches[1:] == [("a", [1, 3]), ("b", [2, 4])]


def test_priority_goes_first(device):
    async def go():
        device.engine.hold()
        first = submit(device, 0)
        await started(device)
        low = submit(device, 1, length=8, priority=5)
        await queued(device, 1)
        high = submit(device, 2, length=8, priority=-1)
        await queued(device, 2)
        device.engine.gate.set()
        await asyncio.gather(first, low, high)

    asyncio.run(go())
    assert [batch for _, batch in device.engine.batches] == [[0], [2], [1]]


def test_a_large_batch_does_not_block_a_text_behind_it(device):
    async def go():
        device.engine.hold()
        large = submit(device, *range(64))
        await started(device)
        single = submit(device, 99)
        await queued(device, 57)
        device.engine.gate.set()
        await asyncio.gather(large, single)

    asyncio.run(go())
    assert 99 in device.engine.batches[1][1]


def test_a_full_queue_refuses_with_the_time_to_wait(device):
    async def go():
        device.engine.hold()
        device.queue.rate = 10.0
        large = submit(device, *range(150))  # a job of any size is admitted below the limit
        await started(device)
        with pytest.raises(Overloaded) as refused:
            await submit(device, 1)
        device.engine.gate.set()
        assert values(await large) == list(range(150))
        return refused.value

    error = asyncio.run(go())
    assert error.status == 429 and error.retry_after == 15


def test_a_deadline_that_cannot_be_met_is_refused_at_once(device):
    async def go():
        device.engine.hold()
        device.queue.rate = 10.0
        large = submit(device, *range(90))
        await started(device)
        begun = time.monotonic()
        with pytest.raises(Overloaded):
            await submit(device, 1, deadline=begun + 2)
        assert time.monotonic() - begun < 0.5
        device.engine.gate.set()
        await large

    asyncio.run(go())


def test_a_deadline_that_passes_in_the_queue_ends_the_request(device):
    async def go():
        device.engine.hold()
        first = submit(device, 0)
        await started(device)
        late = submit(device, 1, deadline=time.monotonic() + 0.05)
        await queued(device, 1)
        await asyncio.sleep(0.1)
        device.engine.gate.set()
        await first
        with pytest.raises(Expired):
            await late

    asyncio.run(go())
    assert device.engine.batches == [("embed", [0])]


def test_a_client_that_leaves_takes_its_queued_work_with_it(device):
    async def go():
        device.engine.hold()
        first = submit(device, 0)
        await started(device)
        leaving, staying = submit(device, *range(10, 30)), submit(device, 1)
        await queued(device, 21)
        leaving.cancel()
        await queued(device, 1)
        device.engine.gate.set()
        await asyncio.gather(first, staying)

    asyncio.run(go())
    assert device.engine.batches == [("embed", [0]), ("embed", [1])]
    assert device.queue.tokens == 0


def test_only_the_guilty_request_of_a_failing_batch_fails(device):
    async def go():
        device.engine.hold()
        device.engine.poison = 3
        first = submit(device, 0)
        await started(device)
        jobs = [submit(device, value) for value in (1, 2, 3, 4, 5)]
        await queued(device, 5)
        device.engine.gate.set()
        await first
        return await asyncio.gather(*jobs, return_exceptions=True)

    outcomes = asyncio.run(go())
    assert isinstance(outcomes.pop(2), Failed)
    assert [values(job) for job in outcomes] == [[1], [2], [4], [5]]
    assert device.owner.is_alive() and device.queue.running == 0


def test_the_death_of_the_thread_fails_what_waits_and_what_comes(device):
    async def go():
        device.engine.hold()
        running = submit(device, 0)
        await started(device)
        waiting, call = submit(device, 1), asyncio.ensure_future(device.owner.call(sys_exit))
        await queued(device, 1)
        device.engine.gate.set()
        outcomes = await asyncio.gather(running, waiting, call, return_exceptions=True)
        await asyncio.to_thread(device.owner.join, 5)
        with pytest.raises(Dead):
            await submit(device, 2)
        with pytest.raises(Dead):
            await device.owner.probe()
        return outcomes

    _, waiting, call = asyncio.run(go())
    assert isinstance(waiting, Dead) and isinstance(call, Dead)


def sys_exit():
    raise SystemExit


def test_a_stuck_device_does_not_answer_the_probe(device):
    async def go():
        device.engine.hold()
        job = submit(device, 0)
        await started(device)
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.2):
                await device.owner.probe()
        device.engine.gate.set()
        await job
        await device.owner.probe()

    asyncio.run(go())


def test_queues_of_several_models_take_turns(device):
    other = FakeEngine()
    other.batches = device.engine.batches
    queue = device.owner.add(other, limit=100)

    async def go():
        device.engine.hold()
        first = submit(device, 0)
        await started(device)
        mine = submit(device, *range(16))
        theirs = asyncio.ensure_future(queue.submit("embed", [Text(7.0)] * 16))
        await queued(device, 16)
        device.engine.gate.set()
        await asyncio.gather(first, mine, theirs)

    asyncio.run(go())
    turns = [set(batch) == {7.0} for _, batch in device.engine.batches[1:]]
    assert turns in ([True, False] * 2, [False, True] * 2)
