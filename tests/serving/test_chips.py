"""Which devices each replica has, as its environment says it to JAX."""

import os

import pytest

from serving import chips
from serving.config import Options
from serving.server import workers_of
from serving.supervisor import supervise


def shares(monkeypatch, platform, count, **options):
    monkeypatch.setattr(chips, "look", lambda: (platform, count))
    return chips.shares(Options(models=["m"], **options))


def test_one_replica_has_all_and_nobody_looks(monkeypatch):
    monkeypatch.setattr(chips, "look", None)
    assert chips.shares(Options(models=["m"])) == [chips.Share()]


def test_a_gpu_each_or_as_many_as_it_needs(monkeypatch):
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    found = shares(monkeypatch, "gpu", 4, replicas="auto")
    assert [one.environment for one in found] == [
        {"CUDA_VISIBLE_DEVICES": str(i)} for i in range(4)
    ]
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4,5,6,7")
    found = shares(monkeypatch, "gpu", 4, replicas="auto", tensor_parallel_size=2)
    assert [one.environment["CUDA_VISIBLE_DEVICES"] for one in found] == ["4,5", "6,7"]
    with pytest.raises(SystemExit, match="3 replicas of 2 chips each, and there are 4 chips"):
        shares(monkeypatch, "gpu", 4, replicas=3, data_parallel_size=2)


def test_a_tpu_chip_each_is_a_slice_by_itself(monkeypatch):
    found = [one.environment for one in shares(monkeypatch, "tpu", 4, replicas=2)]
    assert [one["TPU_VISIBLE_CHIPS"] for one in found] == ["0", "1"]
    assert {one["TPU_PROCESS_BOUNDS"] for one in found} == {"1,1,1"}
    assert len({one["TPU_PROCESS_PORT"] for one in found}) == 2
    with pytest.raises(SystemExit, match="one chip"):
        shares(monkeypatch, "tpu", 4, replicas=2, tensor_parallel_size=2)
    assert shares(monkeypatch, "tpu", 1, replicas="auto") == [chips.Share()]


def test_cores_are_shared(monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(5)))
    assert shares(monkeypatch, "cpu", 1, replicas="auto") == [chips.Share(cores=(0, 1, 2, 3, 4))]
    cores = [one.cores for one in shares(monkeypatch, "cpu", 1, replicas=2)]
    assert cores == [(0, 2, 4), (1, 3)]
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {3})
    assert [one.cores for one in shares(monkeypatch, "cpu", 1, replicas=2)] == [(3,), (3,)]


def test_what_a_machine_has_is_found_by_another_process():
    assert chips.look() == ("cpu", 1)  # by the variable alone
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(chips, "LOOK", "raise SystemExit('taken')")
        patched.setenv("JAX_PLATFORMS", "")
        with pytest.raises(SystemExit, match="taken"):
            chips.look()
        patched.setattr(chips, "LOOK", "print('chatter'); print('[\"gpu\", 8]')")
        assert chips.look() == ("gpu", 8)


@pytest.mark.parametrize("cores, workers", [(1, 1), (4, 1), (5, 2), (16, 4), (96, 8)])
def test_workers_by_the_cores(monkeypatch, cores, workers):
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(cores)))
    assert workers_of(Options(models=["m"])) == workers
    assert workers_of(Options(models=["m"], api_workers=3)) == 3
    assert workers_of(Options(models=["m"], distributed=True)) == 1


def test_a_server_of_several_hosts_has_neither():
    with pytest.raises(SystemExit, match="--distributed has no --api-workers and no --replicas"):
        supervise(Options(models=["m"], distributed=True), 2)
