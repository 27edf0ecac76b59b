"""Where checkpoints lie and how their tensors are read and written, without torch."""

import importlib.util
import json
import os
import shutil
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np
from safetensors.numpy import save_file

from converters.mapped import Mapped, safetensors_index
from converters.report import CheckpointError
from converters.torch_file import torch_index
from converters.torch_save import save_torch

WEIGHTS = ("*.safetensors", "*.bin", "*.pt", "*.pth", "*.h5", "*.msgpack", "*.onnx", "*.ot")
TORCH = ".pt"
SHARD_BYTES = 4 << 30
MANIFEST = "tensors.json"  # of an Orbax folder: what its checkpoint's weight files held


def resolve(model: str | os.PathLike, revision: str | None = None) -> Path:
    """The local folder of a model name: a folder, `pkg://package/path`, or a Hub id.

    Hub ids are fetched through huggingface_hub into its cache (`HF_HOME`, `HF_HUB_OFFLINE` and
    `HF_TOKEN` work as everywhere). Raises `FileNotFoundError` with what was tried.
    """
    name = os.fspath(model)
    if name.startswith("pkg://"):
        return _package_folder(name)
    if (folder := Path(name).expanduser()).is_dir():
        return folder
    if name.startswith((".", "/", "~")) or name.count("/") > 1:
        raise FileNotFoundError(f"no such model folder: {name}")
    return _hub_folder(name, revision)


def _package_folder(name: str) -> Path:
    package, _, inside = name.removeprefix("pkg://").partition("/")
    spec = importlib.util.find_spec(package) if package.isidentifier() else None
    if spec is None or not spec.submodule_search_locations:
        raise FileNotFoundError(
            f"{name}: no installed Python package {package!r} (pip install the one that has it)"
        )
    folder = Path(next(iter(spec.submodule_search_locations))) / inside
    if not folder.is_dir():
        raise FileNotFoundError(f"{name}: package {package!r} has no folder {inside!r}")
    return folder


def _hub_folder(name: str, revision: str | None) -> Path:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    wanted = ["*.json", "*.txt", "*.model", "*.jinja", "*.metadata", "*.safetensors"]
    wanted += ["[0-9]_*/*.bin", "*_linear.pt"]  # small modules that have no other file
    try:
        folder = Path(snapshot_download(name, revision=revision, allow_patterns=wanted))
        if not any(folder.glob("**/*.safetensors")):
            snapshot_download(name, revision=revision, allow_patterns=["*.bin", "*.pt"])
    except (HfHubHTTPError, HFValidationError, LocalEntryNotFoundError, OSError) as error:
        reason = str(error).strip().splitlines()[0]
        raise FileNotFoundError(
            f"no such model: {name!r} is neither a local folder nor a Hub id that can be "
            f"fetched or found in the cache ({reason})"
        ) from error
    return folder


def read_json(path: Path, default=None):
    """The JSON of a file; `default` where there is none (an error if that is not given)."""
    if not path.is_file():
        if default is None:
            raise FileNotFoundError(f"{path.parent} has no {path.name}")
        return default
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except json.JSONDecodeError as error:
        raise CheckpointError(f"{path} is not valid JSON: {error}") from error


def update_json(path: Path, values: dict) -> None:
    """Set some fields of the JSON object in a file."""
    path.write_text(json.dumps(read_json(path) | values, indent=2), encoding="utf-8")


class Tensors:
    """The tensors of one or more weight files, read lazily, under canonical names.

    `rename` gives the canonical name of a name on disk.
    """

    def __init__(self, files: Iterable[Path], rename=lambda name: name):
        self._where: dict[str, Mapped] = {}
        for file in files:
            index = safetensors_index if file.suffix == ".safetensors" else torch_index
            for name, tensor in index(file).items():
                canonical = rename(name)
                if canonical in self._where:
                    raise CheckpointError(f"{file.name}: a second tensor {canonical} ({name})")
                self._where[canonical] = tensor

    def keys(self):
        """The canonical names."""
        return self._where.keys()

    def shape(self, name: str) -> tuple[int, ...]:
        """The shape of a tensor, without reading it."""
        return self._where[name].shape

    def dtype(self, name: str) -> str:
        """The dtype of a tensor as safetensors spells it ("F32", "BF16", ...)."""
        return self._where[name].dtype

    def describe(self) -> dict[str, dict]:
        """The shape and dtype of every tensor."""
        return {n: {"shape": self.shape(n), "dtype": self.dtype(n)} for n in self.keys()}

    def __getitem__(self, name: str) -> np.ndarray:
        """A tensor as a read-only array over its file."""
        return self._where[name].array()


class Manifest:
    """What the weight files of a checkpoint held, once its tensors live elsewhere."""

    def __init__(self, tensors: dict[str, dict]):
        self._tensors = tensors

    def keys(self):
        """The canonical names."""
        return self._tensors.keys()

    def shape(self, name: str) -> tuple[int, ...]:
        """The shape of a tensor."""
        return tuple(self._tensors[name]["shape"])

    def dtype(self, name: str) -> str:
        """The dtype of a tensor as safetensors spells it."""
        return self._tensors[name]["dtype"]

    def describe(self) -> dict[str, dict]:
        """The shape and dtype of every tensor."""
        return self._tensors


def open_tensors(folder: Path, path: str = "", rename=lambda name: name) -> "Tensors | Manifest":
    """The tensors of the weight files of `folder/path`, or their manifest in an Orbax folder.

    A path that ends in .pt is one file.
    """
    manifest = read_json(folder / MANIFEST, default={})
    if manifest:
        return Manifest(manifest[path])
    whole = path.endswith(TORCH)
    return Tensors([folder / path] if whole else weight_files(folder / path), rename)


def has_tensors(folder: Path, path: str) -> bool:
    """Whether `open_tensors` finds the file `path` in a folder."""
    return (folder / path).is_file() or path in read_json(folder / MANIFEST, default={})


def weight_files(
    folder: Path, stems: Sequence[str] = ("model.safetensors", "pytorch_model.bin")
) -> list[Path]:
    """The weight files of a checkpoint folder: the first of `stems` there is, whole or sharded."""
    for stem in stems:
        index = folder / f"{stem}.index.json"
        if index.is_file():
            names = sorted(set(read_json(index)["weight_map"].values()))
            missing = [name for name in names if not (folder / name).is_file()]
            if missing:
                raise CheckpointError(f"{index.name} names shards that are not there: {missing}")
            return [folder / name for name in names]
        if (folder / stem).is_file():
            return [folder / stem]
    raise CheckpointError(f"{folder} has no {' nor '.join(stems)}, whole or sharded")


def has_weights(folder: Path) -> bool:
    """Whether a checkpoint folder holds its own parameters, as weight files or an Orbax tree."""
    names = ("model*.safetensors", "pytorch_model*.bin", MANIFEST)
    return any(any(folder.glob(name)) for name in names)


def save_tensors(tensors: Iterator[tuple[str, np.ndarray]], folder: Path, stem="model") -> None:
    """Write safetensors as Hugging Face does: one file, or shards of 4 GiB with an index.

    A path that ends in .pt becomes one file of torch's format.
    """
    if folder.suffix == TORCH:
        return save_torch(tensors, folder)
    folder.mkdir(parents=True, exist_ok=True)
    shards: list[dict[str, np.ndarray]] = [{}]
    size = 0
    for name, tensor in tensors:
        if size and size + tensor.nbytes > SHARD_BYTES:
            shards.append({})
            size = 0
        shards[-1][name] = tensor
        size += tensor.nbytes
    if len(shards) == 1:
        save_file(shards[0], folder / f"{stem}.safetensors", metadata={"format": "pt"})
        return
    weight_map = {}
    for number, shard in enumerate(shards, start=1):
        file = f"{stem}-{number:05}-of-{len(shards):05}.safetensors"
        save_file(shard, folder / file, metadata={"format": "pt"})
        weight_map |= dict.fromkeys(shard, file)
    total = sum(tensor.nbytes for shard in shards for tensor in shard.values())
    index = {"metadata": {"total_size": total}, "weight_map": weight_map}
    (folder / f"{stem}.safetensors.index.json").write_text(json.dumps(index, indent=2))


def copy_companions(source: Path, target: Path) -> None:
    """Everything of a checkpoint folder but weights: configs, tokenizer, modules."""
    ignore = shutil.ignore_patterns(
        *WEIGHTS, "*.index.json", ".*", "params", "adapters", "adapter_config.json", MANIFEST
    )
    shutil.copytree(source, target, ignore=ignore, dirs_exist_ok=True)
