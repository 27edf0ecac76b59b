"""torch's zip format (`pytorch_model.bin`, `*.pt`) read without torch, and without running it.

A file holds `*/data.pkl`, a pickle of names and tensor descriptions, and the storages `*/data/N`,
uncompressed, so that a tensor is a map of the file. The pickle is read with an allow-list of
constructors; it cannot name, let alone call, anything else.
"""

import math
import pickle
import struct
import zipfile
from collections import OrderedDict
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np

from converters.files.mapped import DTYPES, Mapped
from converters.report import CheckpointError


class Storage(NamedTuple):
    """The flat buffer that one or more tensors view."""

    file: Path
    offset: int
    size: int  # bytes
    dtype: str


class Constructor(NamedTuple):
    """A function a pickle may call. Immutable, so that a pickle cannot alter it either."""

    function: Callable

    def __call__(self, *args):
        return self.function(*args)


def _tensor(storage, offset, shape, strides, *unused) -> Mapped:
    return _view(storage, storage.dtype, offset, shape, strides)


def _tensor_of_dtype(storage, offset, shape, strides, grad, hooks, dtype, *unused) -> Mapped:
    return _view(storage, dtype, offset, shape, strides)


def _view(storage: Storage, dtype: str, offset: int, shape, strides) -> Mapped:
    """The tensor, with what a forged description could do checked: it lies in its storage."""
    itemsize = np.dtype(DTYPES[dtype]).itemsize
    if len(shape) != len(strides) or min((offset, *shape, *strides)) < 0:
        raise ValueError(f"a tensor has shape {shape} and strides {strides} at {offset}")
    last = offset + sum((n - 1) * step for n, step in zip(shape, strides, strict=True))
    if 0 not in shape and (last + 1) * itemsize > storage.size:
        raise ValueError(
            f"a tensor of shape {shape}, strides {strides} at element {offset} lies outside "
            f"its storage of {storage.size} bytes"
        )
    contiguous = tuple(math.prod(shape[i + 1 :]) for i in range(len(shape)))
    view = None if tuple(strides) == contiguous else tuple(strides)
    return Mapped(storage.file, storage.offset + offset * itemsize, tuple(shape), dtype, view)


STORAGES = {
    "DoubleStorage": "F64",
    "FloatStorage": "F32",
    "HalfStorage": "F16",
    "BFloat16Storage": "BF16",
    "LongStorage": "I64",
    "IntStorage": "I32",
    "ShortStorage": "I16",
    "CharStorage": "I8",
    "ByteStorage": "U8",
    "BoolStorage": "BOOL",
}
ALLOWED: dict[tuple[str, str], object] = {
    ("collections", "OrderedDict"): OrderedDict,
    ("torch", "Size"): Constructor(tuple),
    ("torch._utils", "_rebuild_tensor_v2"): Constructor(_tensor),
    ("torch._utils", "_rebuild_tensor_v3"): Constructor(_tensor_of_dtype),
    ("torch._utils", "_rebuild_parameter"): Constructor(lambda tensor, *unused: tensor),
    ("torch.storage", "UntypedStorage"): "U8",
    ("torch", "float8_e4m3fn"): "F8_E4M3",
    ("torch", "float8_e5m2"): "F8_E5M2",
} | {("torch", name): dtype for name, dtype in STORAGES.items()}


class Reader(pickle.Unpickler):
    """Reads a pickle that may name `ALLOWED` alone, and the storages of its archive."""

    def __init__(self, stream, storage: Callable[[str, str], Storage]):
        super().__init__(stream)
        self._storage = storage

    def find_class(self, module: str, name: str):
        """What a pickle means by a name; refuses every other one."""
        if (module, name) not in ALLOWED:
            raise pickle.UnpicklingError(f"it asks for {module}.{name}, which is not allowed")
        return ALLOWED[module, name]

    def persistent_load(self, pid) -> Storage:
        """("storage", type, key, device, elements) -> `Storage`."""
        kind, dtype, key = pid[:3]
        if kind != "storage" or dtype not in DTYPES:
            raise pickle.UnpicklingError(f"it refers to {kind} {dtype}, not to a storage")
        return self._storage(key, dtype)


def torch_index(file: Path) -> dict[str, Mapped]:
    """The tensors of a file of torch's zip format by name.

    Raises `CheckpointError` for another format, a pickle that asks for more than tensors (by its
    name), and contents that are not a flat mapping of names to tensors.
    """
    if not zipfile.is_zipfile(file):
        raise CheckpointError(_not_zip(file))
    try:
        with zipfile.ZipFile(file) as archive, open(file, "rb") as raw:
            content = _load(file, archive, raw)
    # A pickle can be malformed in any way: whatever its reading raises is about the file.
    except Exception as error:
        raise CheckpointError(f"{file.name} is refused: {error}") from error
    return _flat(file, content)


def _not_zip(file: Path) -> str:
    head = file.read_bytes()[:2]
    legacy = head == b"\x80\x02"  # the pickled magic number of torch before 1.6
    reason = "is in torch's format before 1.6" if legacy else "is truncated or no torch file"
    return (
        f"{file.name} {reason}; where torch is installed, convert it once: "
        f"safetensors.torch.save_file(torch.load('{file.name}', weights_only=True), "
        f"'{file.stem.replace('pytorch_model', 'model')}.safetensors')"
    )


def _load(file: Path, archive: zipfile.ZipFile, raw):
    entries = {info.filename: info for info in archive.infolist()}
    pickles = [name for name in entries if name.endswith("/data.pkl") or name == "data.pkl"]
    if len(pickles) != 1:
        raise ValueError(f"wanted one data.pkl, found {pickles}")
    root = pickles[0].removesuffix("data.pkl")
    order = archive.read(f"{root}byteorder") if f"{root}byteorder" in entries else b"little"
    if order != b"little":
        raise ValueError(f"wanted little-endian storages, found {order.decode()}")

    def storage(key: str, dtype: str) -> Storage:
        info = entries[f"{root}data/{key}"]
        if info.compress_type != zipfile.ZIP_STORED:
            raise ValueError(f"its storage {info.filename} is compressed")
        return Storage(file, _data_offset(raw, info), info.file_size, dtype)

    with archive.open(pickles[0]) as stream:
        return Reader(stream, storage).load()


def _data_offset(raw, info: zipfile.ZipInfo) -> int:
    """Where an entry's bytes begin: behind its local header, whose fields vary in length."""
    raw.seek(info.header_offset + 26)
    name, extra = struct.unpack("<HH", raw.read(4))
    return info.header_offset + 30 + name + extra


def _flat(file: Path, content) -> dict[str, Mapped]:
    if not isinstance(content, Mapping):
        raise CheckpointError(f"{file.name}: wanted names to tensors, found {_kind(content)}")
    for name, value in content.items():
        if not isinstance(name, str) or not isinstance(value, Mapped):
            raise CheckpointError(f"{file.name}: wanted a tensor at {name!r}, found {_kind(value)}")
    return dict(content)


def _kind(value) -> str:
    return "a tensor" if isinstance(value, Mapped) else f"a {type(value).__name__}"
