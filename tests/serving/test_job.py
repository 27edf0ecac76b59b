"""The parts in which the queue gives jobs to the device."""

import asyncio
import math
import threading
from types import SimpleNamespace

from serving.job import Job
from serving.queue import Queue


def job_of(count, size=1):
    return Job("embed", [SimpleNamespace(size=size)] * count, 0, math.inf, None)


def put(queue, *jobs):
    """Let jobs arrive in one round of an event loop: the device has them when it ends."""

    async def arrive():
        for job in jobs:
            queue._put(job)
            assert not queue.waiting and not queue.take()
        await asyncio.sleep(0)

    asyncio.run(arrive())
    assert queue.waiting
    return jobs


def taken(queue):
    return [(part.job, part.start, part.stop) for part in queue.take()]


def test_a_small_job_stays_whole_beside_a_large_one_and_a_large_one_gives_way():
    queue = Queue(SimpleNamespace(budget=8), threading.Condition(threading.RLock()), 100)
    large, first, second = put(queue, *map(job_of, (20, 2, 2)))
    assert taken(queue) == [(large, 0, 2), (first, 0, 2), (second, 0, 2), (large, 2, 4)]
    assert taken(queue) == [(large, 4, 12)] and queue.tokens == queue.requests == 8


def test_a_text_beyond_the_budget_goes_alone():
    queue = Queue(SimpleNamespace(budget=8), threading.Condition(threading.RLock()), 100)
    long, short = put(queue, job_of(2, size=12), job_of(1))
    assert taken(queue) == [(long, 0, 1)]
    assert taken(queue) == [(short, 0, 1)]
    assert taken(queue) == [(long, 1, 2)] and queue.tokens == 0


def test_a_part_that_failed_is_tried_by_its_requests():
    queue = Queue(SimpleNamespace(budget=8), threading.Condition(threading.RLock()), 100)
    (job,) = put(queue, job_of(3, size=2))
    (part,) = queue.take()
    assert [(one.start, one.stop, one.tokens) for one in part.each] == [
        (0, 1, 2),
        (1, 2, 2),
        (2, 3, 2),
    ]
    assert part.tokens == 6 and len(part) == 3 and part.job is job
