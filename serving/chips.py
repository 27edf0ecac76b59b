"""Which devices each replica of a server has: a chip, or a share of the processor's cores."""

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from typing import NamedTuple

from serving.config import Options

# Chips of a TPU may have two devices each; their coordinates tell them apart.
LOOK = """
import json, jax
devices = jax.local_devices()
places = {str(getattr(device, "coords", device.id)) for device in devices}
print(json.dumps([jax.default_backend(), len(places)]))
"""
TPU_PORT = 8476


class Share(NamedTuple):
    """What a replica starts with: its environment, and the cores it may use (None: all)."""

    environment: Mapping[str, str] = {}
    cores: tuple[int, ...] | None = None


def shares(options: Options) -> list[Share]:
    """The devices of each replica; SystemExit where there are not enough."""
    wanted = options.replicas
    if wanted == 1:
        return [Share()]
    platform, chips = look()
    each = options.tensor_parallel_size * (options.data_parallel_size or 1)
    count = max(1, 1 if platform == "cpu" else chips // each) if wanted == "auto" else wanted
    if platform == "cpu":
        return _of_cores(count)
    if count * each > chips:
        raise SystemExit(
            f"jaxpool serve: {count} replicas of {each} chips each, and there are {chips} chips"
        )
    if count == 1:
        return [Share()]
    if platform == "gpu":
        return _of_gpus(count, each)
    if each > 1:
        raise SystemExit("jaxpool serve: on TPUs a replica has one chip")
    return [Share(_of_tpu(index)) for index in range(count)]


def look() -> tuple[str, int]:
    """The platform and its chips, found by a process that ends: it would keep them otherwise."""
    if os.environ.get("JAX_PLATFORMS") == "cpu":
        return "cpu", 1
    done = subprocess.run([sys.executable, "-c", LOOK], capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"jaxpool serve: no devices found: {done.stderr.strip()[-500:]}")
    platform, chips = json.loads(done.stdout.splitlines()[-1])
    return platform, chips


def _of_cores(count: int) -> list[Share]:
    cores = sorted(os.sched_getaffinity(0))
    parts = [tuple(cores[index::count]) for index in range(count)]
    return [Share(cores=part or (cores[i % len(cores)],)) for i, part in enumerate(parts)]


def _of_gpus(count: int, each: int) -> list[Share]:
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    names = visible.split(",") if visible else [str(i) for i in range(count * each)]
    parts = [names[i * each : (i + 1) * each] for i in range(count)]
    return [Share({"CUDA_VISIBLE_DEVICES": ",".join(part)}) for part in parts]


def _of_tpu(index: int) -> dict[str, str]:
    """To a TPU's runtime a process of one chip is a slice by itself, with a port of its own."""
    return {
        "TPU_VISIBLE_CHIPS": str(index),
        "TPU_PROCESS_BOUNDS": "1,1,1",
        "TPU_CHIPS_PER_PROCESS_BOUNDS": "1,1,1",
        "TPU_PROCESS_ADDRESSES": f"localhost:{TPU_PORT + index}",
        "TPU_PROCESS_PORT": str(TPU_PORT + index),
        "CLOUD_TPU_TASK_ID": "0",
    }
