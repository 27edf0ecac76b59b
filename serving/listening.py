"""The sockets of the workers of a server: one each, among which the system shares connections."""

import errno
import logging
import os
import socket
import stat

from serving.config import Options

log = logging.getLogger("jaxpool.serving")

BACKLOG = 2048


def listening(options: Options, count: int) -> list[list[socket.socket]]:
    """The sockets of each of `count` workers; SystemExit where the address is taken.

    They stay with the process that makes them: connections to a worker that has ended wait for the
    next one. A Unix socket is one for all.
    """
    try:
        if options.uds:
            return [[_unix(options.uds)]] * count
        for one in _tcp(options.host, options.port, shared=False):  # nobody else is there
            one.close()
        made = [_tcp(options.host, options.port, shared=True)]
        port = made[0][0].getsockname()[1]
        made += [_tcp(options.host, port, shared=True) for _ in range(count - 1)]
    except OSError as error:
        where = options.uds or f"{options.host}:{options.port}"
        raise SystemExit(f"jaxpool serve: cannot listen on {where}: {error}") from None
    for one in (one for each in made for one in each):
        one.listen(BACKLOG)
    scheme = "https" if options.ssl_certfile else "http"
    log.info("listening on %s://%s:%d, %d workers", scheme, options.host, port, count)
    return made


def _tcp(host: str, port: int, shared: bool) -> list[socket.socket]:
    """A socket for each address of a host."""
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    made = []
    for family, kind, protocol, _, address in dict.fromkeys(found):
        made.append(socket.socket(family, kind, protocol))
        made[-1].setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            made[-1].setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        if shared:
            made[-1].setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        made[-1].bind(address)
    return made


def _unix(path: str) -> socket.socket:
    """A Unix socket, in the place of one that a server has left."""
    made = socket.socket(socket.AF_UNIX)
    if os.path.exists(path):
        if not stat.S_ISSOCK(os.stat(path).st_mode):
            raise FileExistsError(errno.EEXIST, "it is a file", path)
        os.unlink(path)
    made.bind(path)
    os.chmod(path, 0o666)  # as for a server of one process
    made.listen(BACKLOG)
    log.info("listening on %s", path)
    return made
