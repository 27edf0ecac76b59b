"""Image processors that are transformers' own: used where they need no torch, else refused."""

import json
import subprocess
import sys

import numpy as np
import pytest

import jaxpool
from converters import other_images
from converters.checkpoint import open_checkpoint
from converters.images import read_processor
from converters.other_images import Other
from converters.report import CheckpointError
from jaxpool.errors import RequestError
from tests.images import towers
from tests.images.photos import photos

DEIT = {"size": {"height": 64, "width": 64}, "crop_size": {"height": 56, "width": 56}}
WITHOUT_TORCH = """
import sys
sys.modules["torch"] = sys.modules["torchvision"] = None
from converters.images import read_processor
from pathlib import Path
print(read_processor(Path(sys.argv[1]), "ViT", 14).crop)
"""


def write(folder, kind: str, facts: dict):
    facts = {"image_processor_type": f"{kind}ImageProcessor"} | facts
    (folder / "preprocessor_config.json").write_text(json.dumps(facts))
    return folder


def test_vectors_with_a_processor_of_transformers(tmp_path):
    """A ViT whose pictures are those of DeiT: the vectors of torch."""
    folder = write(towers.save(tmp_path / "vit", "vit"), "DeiT", DEIT)
    model = jaxpool.load(str(folder), data_parallel_size=1)
    assert isinstance(model.processor, Other) and model.processor.one_size == (56, 56)
    reference = towers.Reference(folder, "vit")
    for image, found in zip(photos(), model.encode(photos()), strict=True):
        wanted = reference(image)
        np.testing.assert_allclose(found, wanted / np.linalg.norm(wanted), atol=1e-5)
    asked = {"prompt": "", "multi_modal_data": {"image": photos()[0]}}
    asked["mm_processor_kwargs"] = {"size": {"height": 90, "width": 80}}
    assert np.abs(model.encode(asked) - model.encode(photos()[0])).max() > 1e-4


def test_a_processor_is_opened_once_for_calls_that_ask_for_the_same(tmp_path, monkeypatch):
    """Also of 16 others in between; what was made of a file's pixels is found again by it."""
    folder = write(towers.save(tmp_path / "vit", "vit"), "DeiT", DEIT)
    opened, own = [], other_images._open
    monkeypatch.setattr(other_images, "_open", lambda *of: opened.append(of) or own(*of))
    checkpoint = open_checkpoint(folder)
    fields = [{"size": {"height": 60 + i, "width": 80}} for i in range(17)]
    found = [checkpoint.processor_for(asked) for asked in [*fields[:2], *fields[:2]]]
    assert found[0] is found[2] and found[1] is found[3] and found[0] != found[1]
    assert len(opened) == 1 + 2
    for asked in (*fields, fields[0]):
        checkpoint.processor_for(asked)
    assert len(opened) == 1 + 17 + 1
    with pytest.raises(CheckpointError, match="size must|sizes|known"):
        checkpoint.processor_for({"size": object()})


def test_no_torch_is_needed(tmp_path):
    command = [sys.executable, "-c", WITHOUT_TORCH, str(write(tmp_path, "DeiT", DEIT))]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.stdout.strip() == "(56, 56)", done.stderr


@pytest.mark.parametrize(
    "kind,facts,message",
    [
        ("New", {}, "NewImageProcessor is not known, nor to transformers without torch"),
        ("Pix2Struct", {}, "Pix2StructImageProcessor is not known"),
        ("DeiT", {"size": {"height": 30000, "width": 30000}}, "wanted at most 4096 pixels"),
        ("ConvNext", {"size": {"shortest_edge": 400}, "do_resize": False}, "several sizes"),
    ],
)
def test_others_are_refused_by_name(kind, facts, message, tmp_path):
    with pytest.raises(CheckpointError, match=message) as caught:
        read_processor(write(tmp_path, kind, facts), "ViT", 14)
    assert "\n" not in str(caught.value)


def test_the_code_of_a_folder_is_not_run(tmp_path):
    (tmp_path / "mine.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')")
    facts = {"auto_map": {"AutoImageProcessor": "mine.MineImageProcessor"}}
    with pytest.raises(CheckpointError, match="MineImageProcessor is not known"):
        read_processor(write(tmp_path, "Mine", facts), "ViT", 14)
    assert not (tmp_path / "ran").exists()


def test_what_may_be_changed(tmp_path):
    folder = write(tmp_path, "DeiT", DEIT)
    crop = {"crop_size": {"height": 28, "width": 42}}
    assert read_processor(folder, "ViT", 14, crop).one_size == (28, 42)
    # The name of a model's vectors has these facts.
    first, again, cropped = (repr(read_processor(folder, "ViT", 14, c)) for c in (None, None, crop))
    assert first == again != cropped
    with pytest.raises(RequestError, match="may change"):
        read_processor(folder, "ViT", 14, {"image_mean": [0, 0, 0]})
