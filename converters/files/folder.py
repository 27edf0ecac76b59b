"""The files of a checkpoint folder that are not weights."""

import hashlib
import json
import shutil
from collections.abc import Iterable
from pathlib import Path

from converters.report import CheckpointError

WEIGHTS = ("*.safetensors", "*.bin", "*.pt", "*.pth", "*.h5", "*.msgpack", "*.onnx", "*.ot")
TOKENIZER = ("*token*.json", "vocab.*", "merges.txt", "*.model")  # what decides ids
MANIFEST = "tensors.json"  # of an Orbax folder: what its checkpoint's weight files held


def read_json(path: Path, default=None):
    """The JSON of a file; `default` where there is none (an error if that is not given)."""
    if not path.is_file():
        if default is None:
            raise FileNotFoundError(f"{path.parent} has no {path.name}")
        return default
    try:
        return json.loads(path.read_text(encoding="utf-8-sig"))
    except json.JSONDecodeError as error:
        raise CheckpointError(f"{path} is not valid JSON: {error}") from error


def update_json(path: Path, values: dict) -> None:
    """Set some fields of the JSON object in a file."""
    path.write_text(json.dumps(read_json(path) | values, indent=2), encoding="utf-8")


def digests(folder: Path, patterns: Iterable[str]) -> dict[str, str]:
    """A digest of each file of a folder that one of the patterns names."""
    files = sorted({file for pattern in patterns for file in folder.glob(pattern)})
    return {file.name: hashlib.sha256(file.read_bytes()).hexdigest() for file in files}


def copy_companions(source: Path, target: Path) -> None:
    """Everything of a checkpoint folder but weights: configs, tokenizer, modules."""
    ignore = shutil.ignore_patterns(
        *WEIGHTS, "*.index.json", ".*", "params", "adapters", "adapter_config.json", MANIFEST
    )
    shutil.copytree(source, target, ignore=ignore, dirs_exist_ok=True)
