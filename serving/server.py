"""Running the application: sockets, signals, draining, logs."""

import asyncio
import contextlib
import json
import logging
import signal
import sys
from collections.abc import Sequence

import uvicorn

from serving import followers
from serving.app import create_app
from serving.config import Options, parse
from serving.memory import keep_large_buffers
from serving.middleware import request_id
from serving.protocol import Protocol
from serving.service import Service

POLL = 0.2  # seconds between looks at a failed start


class Server(uvicorn.Server):
    """Stops on SIGTERM and SIGINT after what is in flight, with exit code 0."""

    @contextlib.contextmanager
    def capture_signals(self):
        """Uvicorn raises the signal again when it is done; here a drained server has succeeded."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self.handle_exit, number, None)
        yield


class JsonFormatter(logging.Formatter):
    """One JSON object a line, with the id of the request."""

    def format(self, record: logging.LogRecord) -> str:
        """The line of a record."""
        line = {
            "time": self.formatTime(record, "%Y-%m-%dT%H:%M:%S%z"),
            "level": record.levelname,
            "logger": record.name,
            "message": record.getMessage(),
            "request_id": request_id.get(),
        }
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return json.dumps(line)


def configure_logs(options: Options) -> None:
    """Send everything to stderr in the wanted format; uvicorn's own access log stays off."""
    handler = logging.StreamHandler()
    text = logging.Formatter("%(levelname)s %(asctime)s [%(name)s] %(message)s")
    handler.setFormatter(JsonFormatter() if options.log_format == "json" else text)
    level = options.uvicorn_log_level.upper()
    logging.basicConfig(handlers=[handler], level=level, force=True)
    # At INFO jax tells which platforms a machine does not have; what it warns of is shown.
    logging.getLogger("jax").setLevel("WARNING" if level == "INFO" else "NOTSET")


def run(options: Options) -> int:
    """Serve until a signal; 0 after a clean drain, 1 if the models could not be loaded."""
    configure_logs(options)
    keep_large_buffers()
    if options.distributed and followers.join(options):
        return followers.follow(options)
    service = Service(options)
    config = uvicorn.Config(
        create_app(options, service),
        host=options.host,
        port=options.port,
        uds=options.uds,
        http=Protocol.within(options.request_read_timeout),
        log_config=None,
        log_level=options.uvicorn_log_level,
        access_log=False,
        server_header=False,
        ssl_keyfile=options.ssl_keyfile,
        ssl_certfile=options.ssl_certfile,
        ssl_ca_certs=options.ssl_ca_certs,
        ssl_cert_reqs=options.ssl_cert_reqs,
        ssl_ciphers=options.ssl_ciphers,
        timeout_graceful_shutdown=max(1, int(options.drain_timeout)),
    )
    server = Server(config)
    uvicorn_loop = config.get_loop_factory()
    with asyncio.Runner(loop_factory=uvicorn_loop) as runner:
        runner.run(_serve(server, service))
    return 1 if service.models.error else 0


async def _serve(server: Server, service: Service) -> None:
    async def watch():
        while not service.models.error:
            await asyncio.sleep(POLL)
        server.should_exit = True

    watcher = asyncio.create_task(watch())
    await server.serve()
    watcher.cancel()


def main(arguments: Sequence[str] | None = None) -> None:
    """`jaxpool serve`: parse, run, exit."""
    sys.exit(run(parse(arguments)))
