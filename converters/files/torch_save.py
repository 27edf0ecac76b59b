"""torch's zip format written without torch: what `torch.load` reads as a dict of tensors.

The pickle is put together from opcodes, because pickling a name needs the module that has it.
"""

import math
import pickle
import zipfile
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from converters.files.torch_file import STORAGES

KINDS = {dtype: name for name, dtype in STORAGES.items()}
NAMES = {"float64": "F64", "float32": "F32", "float16": "F16", "bfloat16": "BF16"}
EMPTY = b"ccollections\nOrderedDict\n" + pickle.EMPTY_TUPLE + pickle.REDUCE


def save_torch(tensors: Iterable[tuple[str, np.ndarray]], file: Path) -> None:
    """Write tensors of a floating dtype into a `*.pt` file."""
    items = [(name, np.ascontiguousarray(tensor)) for name, tensor in tensors]
    entries = b"".join(_value(name) + _tensor(x, str(i)) for i, (name, x) in enumerate(items))
    content = pickle.PROTO + b"\x02" + EMPTY + pickle.MARK + entries + pickle.SETITEMS + pickle.STOP
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr(f"{file.stem}/data.pkl", content)
        archive.writestr(f"{file.stem}/byteorder", "little")
        for i, (_, tensor) in enumerate(items):
            archive.writestr(f"{file.stem}/data/{i}", tensor.tobytes())
        archive.writestr(f"{file.stem}/version", "3\n")


def _tensor(x: np.ndarray, key: str) -> bytes:
    """A call of torch._utils._rebuild_tensor_v2 on the storage `key`."""
    kind = f"ctorch\n{KINDS[NAMES[str(x.dtype)]]}\n".encode()
    storage = _value("storage") + kind + b"".join(map(_value, (key, "cpu", x.size)))
    strides = tuple(math.prod(x.shape[i + 1 :]) for i in range(x.ndim))
    view = b"".join(map(_value, (0, x.shape, strides, False)))
    return (
        b"ctorch._utils\n_rebuild_tensor_v2\n"
        + (pickle.MARK + pickle.MARK + storage + pickle.TUPLE + pickle.BINPERSID)
        + (view + EMPTY + pickle.TUPLE + pickle.REDUCE)
    )


def _value(value) -> bytes:
    """The opcodes of a plain value: its pickle without the frame."""
    return pickle.dumps(value, 2)[2:-1]
