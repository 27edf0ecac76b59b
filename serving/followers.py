"""A server of several processes: the first answers HTTP, the others run what it runs."""

import logging
import signal
from typing import TYPE_CHECKING

from serving.config import Options

if TYPE_CHECKING:
    from jaxpool.engine.distributed import Leader

log = logging.getLogger("jaxpool.serving")


def join(options: Options) -> bool:
    """Find the other processes; whether this one is to follow."""
    if options.enable_lora:
        raise SystemExit("jaxpool serve: --enable-lora is not for several processes")
    import jax

    from jaxpool.engine.distributed import start

    start(options.distributed)
    return jax.process_index() > 0


def lead() -> "Leader":
    """The lines of the first process to the others."""
    from jaxpool.engine.distributed import Leader

    return Leader()


def follow(options: Options) -> int:
    """Run what the first process runs until it has ended, which signals alone do not make happen.

    Whoever stops a server stops all of its processes at once; the first then answers what it has
    admitted, and needs the others for it.
    """
    from jaxpool.engine.distributed import follow, leader_line
    from serving.loading import load_model

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, signal.SIG_IGN)
    line = leader_line()
    executors = [load_model(path, options).executor for path in options.models]
    log.info("following with %d models", len(executors))
    follow(line, executors)
    return 0
