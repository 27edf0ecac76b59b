"""The bytes of a picture behind a URL: `data:`, and where it is allowed `http(s):` and `file:`.

A server must not become a way into its own network (server-side request forgery): a host is looked
up once, each of its addresses has to be public, and the connection goes to the address that was
checked. A redirect is a URL like the first, checked again. Environment proxies are not used.
"""

import base64
import binascii
import http.client
import ipaddress
import socket
import ssl
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from threading import Timer
from urllib.parse import unquote, urljoin, urlsplit

from jaxpool.errors import RequestError

SCHEMES = ("data", "http", "https", "file")
ANY = "*"  # in place of a domain: every public host
REDIRECTS = (301, 302, 303, 307, 308)
BLOCK = 1 << 16
HEADERS = {"Accept": "image/*", "Accept-Encoding": "identity", "User-Agent": "jaxpool"}
# IPv6 networks whose addresses hold those of IPv4: NAT64, 6to4, Teredo.
EMBEDDING = [ipaddress.ip_network(n) for n in ("64:ff9b::/96", "2002::/16", "2001::/32", "::/96")]


@dataclass(frozen=True)
class Fetch:
    """Reads URLs of pictures within limits.

    domains: hosts that may be asked (`ANY`: all public ones), none where it is empty; folder: below
    it `file:` URLs may lie, None for nowhere; seconds: for a whole transfer; most: bytes of a
    picture; redirects: how many may follow one another.
    """

    domains: Sequence[str] = ()
    folder: str | None = None
    seconds: float = 5.0
    most: int = 64 << 20
    redirects: int = 3

    def __call__(self, url: str) -> bytes:
        """The bytes behind a URL; RequestError where it is not allowed or cannot be read."""
        scheme, _, rest = url.strip().partition(":")
        match scheme.lower():
            case "data":
                return self._of_data(rest)
            case "file":
                return self._of_file(rest)
            case "http" | "https":
                return self._of_web(url.strip())
        raise RequestError("The URL must be either a HTTP, data or file URL.")

    def _long(self) -> RequestError:
        return RequestError(f"the image has more than the {self.most} bytes that are allowed")

    def _of_data(self, rest: str) -> bytes:
        """The bytes of `image/png;base64,...`."""
        head, comma, payload = rest.partition(",")
        kind, *options = head.split(";")
        if not comma:
            raise RequestError("Invalid data URL: it has no comma")
        if "base64" not in options:
            raise RequestError("Only base64 data URLs are supported for now.")
        if not kind.startswith("image/"):
            raise RequestError(f"Invalid data URL: wanted an image, found {kind!r}")
        if len(payload) * 3 // 4 > self.most:
            raise self._long()
        try:
            return base64.b64decode(payload, validate=True)
        except (binascii.Error, ValueError) as error:
            raise RequestError(f"Invalid data URL: {error}") from None

    def _of_file(self, rest: str) -> bytes:
        """The bytes of a file below the allowed folder, links followed."""
        if not self.folder:
            raise RequestError("Cannot load local files without `--allowed-local-media-path`.")
        path = unquote(rest.removeprefix("//").removeprefix("localhost"))
        if not path.startswith("/") or "\0" in path:
            raise RequestError("a file: URL must have an absolute path")
        found, folder = Path(path).resolve(), Path(self.folder).resolve()
        if not found.is_relative_to(folder) or not found.is_file():
            raise RequestError("The file must be one below `--allowed-local-media-path`.")
        if found.stat().st_size > self.most:
            raise self._long()
        return found.read_bytes()

    def _of_web(self, url: str) -> bytes:
        """The body behind a URL, or behind the URLs to which it leads."""
        end = time.monotonic() + self.seconds
        for _ in range(self.redirects + 1):
            answer = self._ask(url, end)
            if isinstance(answer, bytes):
                return answer
            url = urljoin(url, answer)
        raise RequestError(f"the URL leads to more than {self.redirects} others")

    def _ask(self, url: str, end: float) -> bytes | str:
        """The body of one answer, or the URL that it names instead."""
        connection, target = self._connection(url, end)
        # The time of a socket is that of one read: a server that drips would never end.
        watch = Timer(max(0.0, end - time.monotonic()), connection.abort)
        watch.start()
        try:
            connection.request(
                "GET", target, headers={"Accept": "image/*", "User-Agent": "jaxpool"}
            )
            with connection.getresponse() as answer:
                return self._read(answer)
        except (OSError, http.client.HTTPException, ValueError) as error:
            if isinstance(error, RequestError):
                raise
            late = time.monotonic() >= end
            why = f"it took more than {self.seconds:g} s" if late else type(error).__name__
            raise RequestError(f"Failed to fetch image: {why}") from error
        finally:
            watch.cancel()
            connection.close()

    def _read(self, answer: http.client.HTTPResponse) -> bytes | str:
        if answer.status in REDIRECTS and (place := answer.headers["Location"]):
            return place
        if answer.status != 200:
            raise RequestError(f"Failed to fetch image: the host answered {answer.status}")
        body = bytearray()
        while block := answer.read(BLOCK):
            body += block
            if len(body) > self.most:
                raise RequestError(
                    f"the image has more than the {self.most} bytes that are allowed"
                )
        return bytes(body)

    def _connection(self, url: str, end: float) -> tuple["Pinned", str]:
        """A connection to the checked address of a URL's host, and what is asked of it."""
        try:
            parts = urlsplit(url)
            host, port = parts.hostname, parts.port
        except ValueError as error:
            raise RequestError(f"Invalid URL: {error}") from None
        secure = parts.scheme == "https"
        if parts.scheme not in ("http", "https") or not host:
            raise RequestError("The URL must be either a HTTP, data or file URL.")
        if ANY not in self.domains and host not in {name.lower() for name in self.domains}:
            raise RequestError(
                f"The URL must be from one of the allowed domains: {list(self.domains)}. "
                f"Input URL domain: {host}"
            )
        port = port or (443 if secure else 80)
        address, left = public_address(host, port), max(0.1, end - time.monotonic())
        target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        return Pinned(host, port, address, secure, left), target


class Pinned(http.client.HTTPConnection):
    """A connection to one address, whatever its host's name says when it is asked again."""

    def __init__(self, host: str, port: int, address: str, secure: bool, timeout: float):
        super().__init__(host, port, timeout=timeout)
        self.default_port = 443 if secure else 80
        self.address, self.secure, self.ended = address, secure, False

    def connect(self) -> None:
        """Connect to the address; certificates are those of the host."""
        self.sock = socket.create_connection((self.address, self.port), self.timeout)
        if self.ended:
            raise TimeoutError
        if self.secure:
            context = ssl.create_default_context()
            self.sock = context.wrap_socket(self.sock, server_hostname=self.host)

    def abort(self) -> None:
        """End what a thread waits for."""
        self.ended = True
        if self.sock:
            try:  # not that of `ssl`, which forgets its state while another thread reads
                socket.socket.shutdown(self.sock, socket.SHUT_RDWR)
            except OSError:  # it has ended by itself
                pass


def public_address(host: str, port: int) -> str:
    """An address of a host, all of which have to be public."""
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        raise RequestError(f"Failed to fetch image: the host {host!r} is not known") from error
    addresses = [str(entry[4][0]) for entry in found]
    if not all(map(is_public, addresses)):
        raise RequestError(f"the host {host!r} has an address that is not public")
    return addresses[0]


def is_public(text: str) -> bool:
    """Whether an address is of the public internet."""
    address = ipaddress.ip_address(text.partition("%")[0])
    if isinstance(address, ipaddress.IPv6Address):
        if address.ipv4_mapped:
            address = address.ipv4_mapped
        elif any(address in network for network in EMBEDDING):
            return False
    return address.is_global and not address.is_multicast and not address.is_reserved
