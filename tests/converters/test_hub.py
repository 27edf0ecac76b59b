"""What is fetched of a Hub repository, from a Hub on loopback."""

import hashlib
import http.server
import json
import shutil
import threading
from urllib.parse import unquote, urlparse

import numpy as np
import pytest
from huggingface_hub import constants
from safetensors.numpy import load_file, save_file

from converters.files.locate import resolve
from converters.files.tensors import weight_files
from converters.files.torch_save import save_torch
from tests.small import save

COMMIT = "a" * 40


class Hub(http.server.BaseHTTPRequestHandler):
    """The calls of `snapshot_download`, answered from the folders in `root`."""

    root = None

    def log_message(self, *parts):
        """Nothing."""

    def answer(self, status, body=b"", **headers):
        self.send_response(status)
        fields = {"Content-Length": len(body), "X-Repo-Commit": COMMIT, **headers}
        for name, value in fields.items():
            self.send_header(name.replace("_", "-"), str(value))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def do_GET(self):
        parts = unquote(urlparse(self.path).path).strip("/").split("/")
        if parts[:2] == ["api", "models"]:
            return self.answer(200, json.dumps(self.card(parts)).encode())
        file = self.root / parts[1] / "/".join(parts[4:])
        if not file.is_file():
            return self.answer(404, X_Error_Code="EntryNotFound")
        body = file.read_bytes()
        self.answer(200, body, ETag=f'"{hashlib.sha1(body).hexdigest()}"')

    do_HEAD = do_GET

    def card(self, parts):
        folder = self.root / parts[3]
        files = [file for file in folder.rglob("*") if file.is_file()]
        names = [file.relative_to(folder).as_posix() for file in files]
        if "tree" in parts:
            sizes = [file.stat().st_size for file in files]
            return [
                {"type": "file", "path": name, "size": size, "oid": "0" * 40}
                for name, size in zip(names, sizes, strict=True)
            ]
        name = "/".join(parts[2:4])
        facts = {"_id": "1", "id": name, "modelId": name, "sha": COMMIT, "private": False}
        siblings = [{"rfilename": name} for name in names]
        return facts | {"downloads": 0, "likes": 0, "tags": [], "siblings": siblings}


@pytest.fixture
def hub(tmp_path, monkeypatch):
    """The folder of a Hub's repositories; ids are `acme/NAME`."""
    import huggingface_hub.utils._http as http_client

    root = tmp_path / "hub"
    root.mkdir()
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), type("Here", (Hub,), {"root": root}))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    address = f"http://127.0.0.1:{server.server_port}"
    monkeypatch.setattr(constants, "ENDPOINT", address)
    monkeypatch.setattr(
        constants,
        "HUGGINGFACE_CO_URL_TEMPLATE",
        address + "/{repo_id}/resolve/{revision}/{filename}",
    )
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)
    http_client.close_session()
    yield root
    http_client.close_session()
    server.shutdown()
    server.server_close()


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    return save(tmp_path_factory.mktemp("made") / "made")


def pickled(made, folder):
    """The model in `folder` with pytorch_model.bin instead of its safetensors."""
    shutil.copytree(made, folder)
    file = folder / "model.safetensors"
    save_torch(iter(load_file(file).items()), folder / "pytorch_model.bin")
    file.unlink()
    return folder


@pytest.mark.parametrize(
    "other", ["", "2_Dense/model.safetensors", "checkpoint-5/model.safetensors", "onnx/x.onnx"]
)
def test_the_bin_of_a_model_whose_safetensors_are_elsewhere(hub, made, other):
    folder = pickled(made, hub / "bin")
    if other:
        (folder / other).parent.mkdir()
        save_file({"linear.weight": np.ones((8, 16), np.float32)}, folder / other)
    found = resolve("acme/bin")
    assert [file.name for file in weight_files(found)] == ["pytorch_model.bin"]
    assert not (found / "checkpoint-5").exists() and not (found / "onnx").exists()


def test_no_bin_beside_safetensors(hub, made):
    folder = pickled(made, hub / "both")
    shutil.copy(made / "model.safetensors", folder)
    found = resolve("acme/both")
    assert [file.name for file in weight_files(found)] == ["model.safetensors"]
    assert not (found / "pytorch_model.bin").exists()


def test_the_bin_of_an_adapter(hub, made):
    folder = shutil.copytree(made, hub / "adapted")
    (folder / "adapter_config.json").write_text("{}")
    save_torch(iter({"a": np.ones(2, np.float32)}.items()), folder / "adapter_model.bin")
    assert (resolve("acme/adapted") / "adapter_model.bin").is_file()
