"""The devices of a start; one line of advice where an accelerator is there and cannot be used."""

import logging
import re

import jax
from jax._src import hardware_utils, xla_bridge

log = logging.getLogger("jaxpool")

# What the runtimes say of a device that does not start, and what helps.
ADVICE = (
    (r"in use by process with pid (\d+)", "process {0} has it: stop that one"),
    (r"(/dev/(?:vfio/|accel)\d+)\S* .*busy", "sudo lsof -w {0} shows the process that has it"),
    (r"lockfile", "if no process uses it, remove the lock: rm /tmp/libtpu_lockfile"),
    (r"RESOURCE_EXHAUSTED|[Oo]ut of memory|memory.*in use", "nvidia-smi shows who has its memory"),
    (r"driver version is insufficient|forward compatib", "the NVIDIA driver is too old for it"),
)
NAMES = {"tpu": "TPU", "cuda": "GPU"}
ON_PURPOSE = "JAX_PLATFORMS=cpu computes on the CPU on purpose"


def devices() -> list[jax.Device]:
    """All devices of the best platform, as `jax.devices()`.

    Raises `RuntimeError` where this machine has a TPU or GPU that JAX has tried and could not
    start: JAX would compute on the CPU without a word.
    """
    try:
        found = jax.devices()
    except RuntimeError as error:
        raise RuntimeError(_line(str(error))) from error
    if found[0].platform == "cpu" and not jax.config.values["jax_platforms"]:
        for platform in _present():
            reason = xla_bridge._backend_errors.get(platform)
            if reason is not None:
                raise RuntimeError(
                    f"this machine has a {NAMES[platform]} that does not start: {_line(reason)}; "
                    f"{ON_PURPOSE}"
                )
            advice = f"pip install 'jaxpool[{platform}]'; {ON_PURPOSE}"
            name = NAMES[platform]
            log.warning("this machine has a %s that JAX has no plugin for: %s", name, advice)
    return found


def _present() -> list[str]:
    """The platforms of this machine's accelerators; our extras have the same names."""
    found = []
    if hardware_utils.num_available_tpu_chips_and_device_id()[0]:
        found.append("tpu")
    if hardware_utils.has_visible_nvidia_gpu():
        found.append("cuda")
    return found


def _line(reason: str) -> str:
    """The first line of an error of a runtime, with what helps where that is known."""
    first = reason.strip().partition("\n")[0].rstrip(".")
    for pattern, advice in ADVICE:
        if match := re.search(pattern, reason):
            return f"{first} ({advice.format(*match.groups())})"
    return first
