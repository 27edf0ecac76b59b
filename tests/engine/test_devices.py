"""Accelerators that do not start are told of in one line with what helps, and never passed over."""

import jax
import pytest
from jax._src import hardware_utils, xla_bridge

from jaxpool.engine.devices import devices
from jaxpool.engine.sharding import make_mesh

BUSY = "ABORTED: The TPU is already in use by process with pid 4321. Not attempting to load it."
STALE = "Internal error when accessing libtpu multi-process lockfile.\nRun rm."
OPENED = "UNKNOWN: TPU initialization failed: open(/dev/vfio/0): Device or resource busy: Device"
FULL = "RESOURCE_EXHAUSTED: Failed to allocate request for 1.00GiB on device ordinal 0"


@pytest.fixture
def machine(monkeypatch):
    """A machine with accelerators, of which JAX could not start some."""

    def make(errors, tpus=0, gpu=False, platforms=None):
        monkeypatch.setattr(xla_bridge, "_backend_errors", errors)
        monkeypatch.setattr(
            hardware_utils, "num_available_tpu_chips_and_device_id", lambda: (tpus, "0x0063")
        )
        monkeypatch.setattr(hardware_utils, "has_visible_nvidia_gpu", lambda: gpu)
        jax.config.update("jax_platforms", platforms)

    jax.devices()  # they start before the machine is another
    before = jax.config.values["jax_platforms"]
    yield make
    jax.config.update("jax_platforms", before)


@pytest.mark.parametrize(
    "reason, advice",
    [
        (BUSY, "process 4321 has it: stop that one"),
        (STALE, "rm /tmp/libtpu_lockfile"),
        (OPENED, "sudo lsof -w /dev/vfio/0 shows the process that has it"),
        ("anything else", "does not start: anything else; JAX_PLATFORMS=cpu"),
    ],
)
def test_a_tpu_that_does_not_start(machine, reason, advice):
    machine({"tpu": reason}, tpus=4)
    with pytest.raises(RuntimeError, match="this machine has a TPU") as caught:
        make_mesh()
    assert advice in str(caught.value) and "\n" not in str(caught.value)


def test_a_gpu_whose_memory_is_taken(machine, monkeypatch):
    machine({"cuda": FULL}, gpu=True)
    with pytest.raises(RuntimeError, match="nvidia-smi shows who has its memory"):
        devices()

    def fail():
        raise RuntimeError(f"Unable to initialize backend 'cuda': {FULL}")

    monkeypatch.setattr(jax, "devices", fail)
    with pytest.raises(RuntimeError, match="Unable to initialize backend 'cuda'.*nvidia-smi"):
        devices()


def test_no_plugin_is_a_warning(machine, caplog):
    machine({}, tpus=4)
    assert devices() == jax.devices()
    assert "jaxpool[tpu]" in caplog.text


def test_the_cpu_on_purpose(machine):
    machine({"tpu": BUSY}, tpus=4, platforms="cpu")
    assert devices() == jax.devices()


def test_a_machine_without_accelerators_that_has_the_plugin(machine, caplog):
    machine({"tpu": "no TPU found"})
    assert devices() == jax.devices() and not caplog.text
