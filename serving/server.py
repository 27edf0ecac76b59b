"""`jaxpool serve`: how many processes there are, and what this one does."""

import asyncio
import os
import sys
from collections.abc import Sequence

from serving import followers
from serving.app import create_app
from serving.config import Options, parse
from serving.logs import configure_logs
from serving.process import configure_process
from serving.running import Server, configured, serve
from serving.service import Service

CORES, MOST = 4, 8  # cores of a worker, and workers, where nobody says how many


def run(options: Options) -> int:
    """Serve until a signal; 0 after a clean drain, 1 if the models could not be loaded."""
    configure_logs(options)
    workers = workers_of(options)
    if workers > 1 or options.replicas != 1:
        from serving.supervisor import supervise

        return supervise(options, workers)
    configure_process()
    if options.distributed and followers.join(options):
        return followers.follow(options)
    service = Service(options)
    server = Server(configured(options, create_app(options, service)))
    with asyncio.Runner(loop_factory=server.config.get_loop_factory()) as runner:
        runner.run(serve(server, service.models))
    return 1 if service.models.error else 0


def workers_of(options: Options) -> int:
    """The processes that speak HTTP: as asked, or by the cores."""
    if options.api_workers is not None or options.distributed:
        return options.api_workers or 1
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else 1
    return min(-(-cores // CORES), MOST)


def main(arguments: Sequence[str] | None = None) -> None:
    """`jaxpool serve`: parse, run, exit."""
    sys.exit(run(parse(arguments)))
