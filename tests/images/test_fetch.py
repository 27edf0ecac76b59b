"""URLs of pictures: what is read, and that nothing else can be reached through them."""

import base64
import http.server
import threading
import time

import pytest

from jaxpool.errors import RequestError
from jaxpool.images import fetch
from jaxpool.images.fetch import Fetch, is_public
from tests.images.photos import encoded, photo

FILE = encoded(photo(20, 10), "PNG")
HOST = "pictures.example"


class Pictures(http.server.BaseHTTPRequestHandler):
    """A picture, and every answer that a picture's host should not give."""

    def do_GET(self):  # noqa: N802
        place = self.path.lstrip("/")
        if place.startswith("to="):
            self.send_response(302)
            self.send_header("Location", place.removeprefix("to=").format(port=PORT[0]))
            self.end_headers()
        elif place == "missing":
            self.send_error(404)
        elif place == "drip":
            self.drip()
        else:
            self.send_response(200)
            self.end_headers()
            self.wfile.write(FILE if place != "long" else b"x" * 10_000)

    def drip(self):
        """One byte at a time, each before the reader's patience ends."""
        try:
            for letter in b"HTTP/1.1 200 OK\r\nA: " + b"a" * 400:
                self.wfile.write(bytes([letter]))
                self.wfile.flush()
                time.sleep(0.05)
        except OSError:
            pass

    def log_message(self, *_):
        """Nothing."""


PORT: list[int] = []


@pytest.fixture(scope="module")
def port():
    """The port of a host of pictures."""
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Pictures)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    PORT.append(server.server_port)
    yield server.server_port
    server.shutdown()
    server.server_close()


@pytest.fixture
def reachable(monkeypatch, port):
    """`HOST` and "other.example" are this machine, which counts as public for once."""
    real = fetch.socket.getaddrinfo

    def find(host, *rest, **options):
        return real("127.0.0.1" if host.endswith(".example") else host, *rest, **options)

    monkeypatch.setattr(fetch.socket, "getaddrinfo", find)
    monkeypatch.setattr(fetch, "is_public", lambda address: address == "127.0.0.1")
    return f"http://{HOST}:{port}"


def refusal(url: str, **limits) -> str:
    with pytest.raises(RequestError) as caught:
        Fetch(**limits)(url)
    return str(caught.value)


def test_data_urls():
    url = f"data:image/png;base64,{base64.b64encode(FILE).decode()}"
    assert Fetch()(url) == FILE
    assert "more than the 20 bytes" in refusal(url, most=20)


def test_an_allowed_host(reachable):
    for domains in ([HOST], [HOST.upper()], ["*"]):
        assert Fetch(domains)(f"{reachable}/a.png?b=c") == FILE
        assert Fetch(domains)(f"  {reachable.replace('http', 'HTTP', 1)}/a.png ") == FILE


@pytest.mark.parametrize(
    "url",
    [
        "http://other.example/a.png",
        f"http://{HOST}.evil.org/",
        f"http://{HOST}@evil.org/",
        f"http://evil.org\\@{HOST}:80@evil.org/",
        f"http://evil.org#@{HOST}/",
        "http://127.0.0.1/",
        "http://[::1]/",
    ],
)
def test_other_hosts(url):
    assert "one of the allowed domains: ['pictures.example']" in refusal(url, domains=[HOST])


@pytest.mark.parametrize(
    "host",
    ["127.0.0.1", "localhost", "0.0.0.0", "[::1]", "10.0.0.1", "169.254.169.254", "2130706433"]
    + ["[::ffff:127.0.0.1]", "[64:ff9b::7f00:1]", "[2002:7f00:1::]", "0x7f.1", "[fd00::1]"],
)
def test_private_addresses(host):
    message = refusal(f"http://{host}/a.png", domains=["*"])
    assert "has an address that is not public" in message or "is not known" in message


def test_public_addresses():
    assert is_public("8.8.8.8") and is_public("2606:4700::1111") and is_public("::ffff:8.8.8.8")
    assert not any(map(is_public, ["224.0.0.1", "240.0.0.1", "fe80::1%eth0", "100.64.0.1"]))


def test_a_name_of_one_public_and_one_private_address(monkeypatch):
    entries = [(2, 1, 6, "", (address, 80)) for address in ("8.8.8.8", "10.0.0.1")]
    monkeypatch.setattr(fetch.socket, "getaddrinfo", lambda *a, **k: entries)
    assert "not public" in refusal(f"http://{HOST}/", domains=[HOST])


def test_a_name_that_changes_its_address(monkeypatch, reachable):
    """The address that was checked is the one that is asked: a second look-up finds another."""
    asked = []
    real = fetch.socket.getaddrinfo

    def find(host, *rest, **options):
        asked.append(host)
        return real(host, *rest, **options) if len(asked) < 2 or host != HOST else []

    monkeypatch.setattr(fetch.socket, "getaddrinfo", find)
    assert Fetch([HOST])(f"{reachable}/a.png") == FILE
    assert asked.count(HOST) == 1


def test_redirects(reachable, port):
    both = Fetch([HOST, "other.example"])
    assert both(f"{reachable}/to=http://other.example:{port}/a.png") == FILE
    assert both(f"{reachable}/to=/a.png") == FILE
    assert "allowed domains" in refusal(
        f"{reachable}/to=http://other.example:{port}/", domains=[HOST]
    )
    assert "not public" in refusal(f"{reachable}/to=http://169.254.169.254/", domains=["*"])
    assert "must be either a HTTP" in refusal(f"{reachable}/to=file:///etc/passwd", domains=["*"])
    assert "more than 3 others" in refusal(f"{reachable}/to={reachable}/to=" * 4, domains=[HOST])


def test_limits(reachable):
    assert "answered 404" in refusal(f"{reachable}/missing", domains=[HOST])
    assert "more than the 9000 bytes" in refusal(f"{reachable}/long", domains=[HOST], most=9000)
    begun = time.monotonic()
    assert "more than 0.5 s" in refusal(f"{reachable}/drip", domains=[HOST], seconds=0.5)
    assert time.monotonic() - begun < 2


@pytest.mark.parametrize("url", ["http://", "http://[::1", "http://a:b/", "gopher://a/", "a.png"])
def test_what_is_no_url(url):
    refusal(url, domains=["*"])


def test_files(tmp_path):
    folder = tmp_path / "allowed"
    folder.mkdir()
    (folder / "a b.png").write_bytes(FILE)
    (tmp_path / "secret").write_bytes(b"secret")
    (folder / "link").symlink_to(tmp_path / "secret")
    url = f"file://{folder}"
    assert Fetch(folder=str(folder))(f"{url}/a%20b.png") == FILE
    assert Fetch(folder=str(folder))(f"file://localhost{folder}/a%20b.png") == FILE
    assert "Cannot load local files" in refusal(f"{url}/a%20b.png")
    for other in (
        f"{url}/../secret",
        f"{url}/%2e%2e/secret",
        f"{url}/link",
        url,
        "file:///etc/hosts",
    ):
        assert "must be one below" in refusal(other, folder=str(folder))
    assert "absolute path" in refusal("file://a.png", folder=str(folder))
    assert "more than the 9 bytes" in refusal(f"{url}/a%20b.png", folder=str(folder), most=9)
