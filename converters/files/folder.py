"""The files of a checkpoint folder that are not weights."""

import hashlib
import json
import logging
import os
import shutil
from collections.abc import Iterable
from pathlib import Path

from converters.files.paths import check_links
from converters.report import CheckpointError

log = logging.getLogger("jaxpool")

WEIGHTS = ("*.safetensors", "*.bin", "*.pt", "*.pth", "*.h5", "*.msgpack", "*.onnx", "*.ot")
TOKENIZER = ("*token*.json", "vocab.*", "merges.txt", "*.model", "*.tiktoken")  # what decides ids
JSON_BYTES = 64 << 20  # of a file that is read as JSON: those of published models have a tenth
MANIFEST = "tensors.json"  # of an Orbax folder: what its checkpoint's weight files held


def read_json(path: Path, default=None):
    """The JSON of a file, of the type of `default` (an object if that is not given).

    `default` is what comes out where there is no file; without it that is an error.
    """
    if not path.is_file():
        if default is None:
            raise FileNotFoundError(f"{path.parent} has no {path.name}")
        return default
    if path.stat().st_size > JSON_BYTES:
        raise CheckpointError(f"{path} is larger than {JSON_BYTES >> 20} MiB")
    try:
        text = path.read_text(encoding="utf-8-sig")
        found = json.loads(text, parse_constant=_number, object_hook=_untagged)
    except (ValueError, RecursionError) as error:
        raise CheckpointError(f"{path} is not valid JSON: {error}") from error
    lists = isinstance(default, list)
    if not isinstance(found, list if lists else dict):
        wanted = "a list" if lists else "an object"
        raise CheckpointError(f"{path}: wanted {wanted}, found {type(found).__name__}")
    return found


def _number(name: str) -> float:
    """Infinity is a limit that some files give; what is not a number is no value of any field."""
    if name == "NaN":
        raise ValueError("NaN is not a number")
    return float(name)


def _untagged(fields: dict):
    """What stands for a number in the files of transformers 5: {"__float__": "Infinity"}."""
    return _number(fields["__float__"]) if fields.keys() == {"__float__"} else fields


def update_json(path: Path, values: dict) -> None:
    """Set some fields of the JSON object in a file."""
    path.write_text(json.dumps(read_json(path) | values, indent=2), encoding="utf-8")


def keep(store: Path, name: str, text: str) -> None:
    """Write into a folder what later starts read in place of transformers."""
    part = (store / name).with_suffix(f".{os.getpid()}")
    try:
        store.mkdir(parents=True, exist_ok=True)
        part.write_text(text, encoding="utf-8")
        part.replace(store / name)  # in one step: others may read
    except OSError as error:
        log.warning("%s is not kept for later starts: %s", name, error)


def digests(folder: Path, patterns: Iterable[str]) -> dict[str, str]:
    """A digest of each file of a folder that one of the patterns names."""
    found = {file for pattern in patterns for file in folder.glob(pattern)}
    files = sorted(file for file in found if file.is_file())
    return {file.name: hashlib.sha256(file.read_bytes()).hexdigest() for file in files}


def copy_companions(source: Path, target: Path) -> None:
    """Everything of a checkpoint folder but weights: configs, tokenizer, modules."""
    check_links(source)
    ignore = shutil.ignore_patterns(
        *WEIGHTS, "*.index.json", ".*", "params", "adapters", "adapter_config.json", MANIFEST
    )
    shutil.copytree(source, target, ignore=ignore, dirs_exist_ok=True)
