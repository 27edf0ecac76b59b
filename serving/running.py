"""The application under uvicorn: its socket, signals, draining."""

import asyncio
import contextlib
import signal
import socket

import uvicorn
from starlette.types import ASGIApp

from serving.config import Options
from serving.models import Registry
from serving.protocol import Protocol

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


def configured(options: Options, app: ASGIApp) -> uvicorn.Config:
    """How uvicorn runs the application."""
    return uvicorn.Config(
        app,
        host=options.host,
        port=options.port,
        uds=options.uds,
        http=Protocol.within(options.request_read_timeout),
        log_config=None,
        log_level=options.uvicorn_log_level,
        access_log=False,
        server_header=False,
        proxy_headers=False,  # see direct.Direct
        ssl_keyfile=options.ssl_keyfile,
        ssl_certfile=options.ssl_certfile,
        ssl_ca_certs=options.ssl_ca_certs,
        ssl_cert_reqs=options.ssl_cert_reqs,
        ssl_ciphers=options.ssl_ciphers,
        timeout_graceful_shutdown=max(1, int(options.drain_timeout)),
    )


async def serve(server: Server, models: Registry, sockets: list[socket.socket] | None = None):
    """Run a server until a signal, or until its models cannot be loaded."""

    async def watch():
        while not models.error:
            await asyncio.sleep(POLL)
        server.should_exit = True

    watcher = asyncio.create_task(watch())
    await server.serve(sockets)
    watcher.cancel()
