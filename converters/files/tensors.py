"""Tensors of weight files, read lazily and written as Hugging Face does, without torch."""

import json
from collections.abc import Iterable, Iterator, Sequence, Set
from pathlib import Path
from typing import Protocol

import numpy as np
from safetensors.numpy import save_file

from converters.files.folder import MANIFEST, read_json
from converters.files.mapped import Mapped, safetensors_index
from converters.files.paths import inside
from converters.files.torch_file import torch_index
from converters.files.torch_save import save_torch
from converters.report import CheckpointError

TORCH = ".pt"
SHARD_BYTES = 4 << 30


class Source(Protocol):
    """What is known of the tensors of a checkpoint before they are read."""

    def keys(self) -> Set[str]:
        """The canonical names."""

    def shape(self, name: str) -> tuple[int, ...]:
        """The shape of a tensor."""

    def dtype(self, name: str) -> str:
        """The dtype of a tensor as safetensors spells it ("F32", "BF16", ...)."""

    def describe(self) -> dict[str, dict]:
        """The shape and dtype of every tensor."""


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
        """The shape, dtype and a sample (see `Mapped.sample`) of every tensor."""
        return {
            name: {"shape": list(one.shape), "dtype": one.dtype, "sample": one.sample()}
            for name, one in self._where.items()
        }

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
        """The shape, dtype and a sample of every tensor."""
        return self._tensors


def open_tensors(folder: Path, path: str = "", rename=lambda name: name) -> "Tensors | Manifest":
    """The tensors of the weight files of `folder/path`, or their manifest in an Orbax folder.

    A path that ends in .pt is one file.
    """
    manifest = read_json(folder / MANIFEST, default={})
    if manifest:
        return Manifest(manifest[path])
    whole = path.endswith(TORCH)
    place = inside(folder, path)
    return Tensors([place] if whole else weight_files(place), rename)


def has_tensors(folder: Path, path: str) -> bool:
    """Whether `open_tensors` finds the file `path` in a folder."""
    return (folder / path).is_file() or path in read_json(folder / MANIFEST, default={})


def weight_files(
    folder: Path, stems: Sequence[str] = ("model.safetensors", "pytorch_model.bin")
) -> list[Path]:
    """The weight files of a checkpoint folder: the first of `stems` there is, whole or sharded.

    A whole file comes before an index beside it, as in transformers: the index is what is left of
    a model that was saved again in one piece.
    """
    for stem in stems:
        if (folder / stem).is_file():
            return [folder / stem]
        index = folder / f"{stem}.index.json"
        if index.is_file():
            return _shards(folder, index)
    raise CheckpointError(f"{folder} has no {' nor '.join(stems)}, whole or sharded")


def _shards(folder: Path, index: Path) -> list[Path]:
    """The files that an index names."""
    names = read_json(index).get("weight_map")
    if not isinstance(names, dict) or not all(isinstance(x, str) for x in names.values()):
        raise CheckpointError(f"{index.name}: wanted a weight_map of names to files")
    files = [inside(folder, name) for name in sorted(set(names.values()))]
    if missing := [file.name for file in files if not file.is_file()]:
        raise CheckpointError(f"{index.name} names shards that are not there: {missing}")
    return files


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
    weight_map: dict[str, str] = {}
    for number, shard in enumerate(shards, start=1):
        file = f"{stem}-{number:05}-of-{len(shards):05}.safetensors"
        save_file(shard, folder / file, metadata={"format": "pt"})
        weight_map |= dict.fromkeys(shard, file)
    total = sum(tensor.nbytes for shard in shards for tensor in shard.values())
    index = {"metadata": {"total_size": total}, "weight_map": weight_map}
    (folder / f"{stem}.safetensors.index.json").write_text(json.dumps(index, indent=2))
