"""Processors of pictures with sizes that no picture has: refused, or a picture within bounds."""

import io
import json
import resource
import shutil
from contextlib import contextmanager

import pytest
from images import models
from images.photos import photo
from security import tiny
from security.jail import MEMORY
from security.test_code import MAPS

from converters.images import KINDS, read_processor
from converters.report import CheckpointError
from jaxpool.errors import RequestError
from jaxpool.loading import load

VALUES = (10**9, 10**30, 30_000, -1, 0, 1.5, float("nan"), float("inf"), "many", [], {}, True)
FACTS = ("size", "crop_size", "patch_size", "max_num_patches", "resample", "rescale_factor")
FACTS += ("image_mean", "image_std", "image_processor_type")
PATCH = 14
TOWER = ("hidden_size", "num_hidden_layers", "num_attention_heads", "intermediate_size")
TOWER += ("image_size", "patch_size", "num_channels")


@contextmanager
def little_memory():
    """As the jail has it."""
    limits = resource.getrlimit(resource.RLIMIT_AS)
    with open("/proc/self/statm") as file:
        used = int(file.read().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + MEMORY, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, limits)


@pytest.mark.parametrize("value", VALUES, ids=repr)
@pytest.mark.parametrize("name", FACTS)
@pytest.mark.parametrize("kind", KINDS)
def test_a_size_of_a_processor_takes_no_memory(tmp_path, kind, name, value):
    forms = [value]
    if name in ("size", "crop_size"):
        forms += [{"height": value, "width": 8}, {"height": value, "width": value}]
        forms += [{"shortest_edge": value}]
    for form in forms:
        tiny.write_json(tmp_path / "preprocessor_config.json", {name: form})
        with little_memory():
            try:
                made = read_processor(tmp_path, kind, PATCH)
                read = made(photo(61, 47))
            except (CheckpointError, RequestError) as refused:
                assert len(str(refused).splitlines()) == 1
            else:
                parts = getattr(read, "pictures", (read,))  # of a picture that is cut
                assert sum(len(part.patches) for part in parts) <= 2**20 and made.most <= 2**20


@pytest.mark.parametrize("content", [[], 3, "x", None, {"image_processor": []}], ids=repr)
def test_a_file_of_another_shape_is_refused_or_is_no_file(tmp_path, content):
    for name in ("preprocessor_config.json", "processor_config.json"):
        tiny.write_json(tmp_path / name, content)
    try:
        read_processor(tmp_path, "CLIP", PATCH)
    except CheckpointError as refused:
        assert len(str(refused).splitlines()) == 1


@pytest.mark.parametrize("file", ["preprocessor_config.json", "processor_config.json"])
@pytest.mark.parametrize("kind", MAPS)
def test_a_processor_brings_no_code(tmp_path, kind, file, monkeypatch):
    canary = tmp_path / "canary"
    (tmp_path / "evil.py").write_text(tiny.evil_module(canary))
    tiny.write_json(tmp_path / file, {"auto_map": MAPS[kind], "trust_remote_code": True})
    monkeypatch.setattr("sys.stdin", io.StringIO("y\n" * 100))
    assert read_processor(tmp_path, "CLIP", PATCH).most
    assert not canary.exists()


@pytest.fixture(scope="module")
def towers(tmp_path_factory):
    """A CLIP that works."""
    return models.save(tmp_path_factory.mktemp("towers") / "clip", "clip")


@pytest.mark.parametrize("value", VALUES, ids=repr)
@pytest.mark.parametrize("name", TOWER)
def test_a_size_of_a_tower_takes_no_memory(towers, tmp_path, name, value):
    config = json.loads((towers / "config.json").read_text())
    config["vision_config"][name] = value
    for file in towers.iterdir():
        shutil.copy(file, tmp_path)
    tiny.write_json(tmp_path / "config.json", config)
    with little_memory():
        try:
            made = load(str(tmp_path), dtype="float32")
        except (CheckpointError, ValueError) as refused:
            assert len(str(refused).splitlines()) == 1, refused
        else:
            assert made.arch.vision.layers == 2  # a field that these weights do without
