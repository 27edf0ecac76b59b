"""torch's zip format read without torch: tensors as torch saved them, and nothing else."""

import io
import os
import pickle
import zipfile
from collections import OrderedDict

import numpy as np
import pytest
import torch

from converters.files.tensors import Tensors, weight_files
from converters.files.torch_save import save_torch
from converters.report import CheckpointError

DTYPES = [
    torch.float32,
    torch.float16,
    torch.bfloat16,
    torch.int64,
    torch.uint8,
    torch.bool,
    torch.float8_e4m3fn,
]


def save(folder, content, **options):
    file = folder / "pytorch_model.bin"
    torch.save(content, file, **options)
    return file


def assert_same(ours: np.ndarray, theirs: torch.Tensor):
    """Equal shapes and bits."""
    assert ours.shape == tuple(theirs.shape)
    theirs = theirs.detach().contiguous().flatten()
    assert np.array_equal(ours.reshape(-1).view(np.uint8), theirs.view(torch.uint8).numpy())


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_dtypes(tmp_path, dtype):
    tensor = torch.arange(24).reshape(2, 3, 4).to(dtype)
    tensors = Tensors([save(tmp_path, {"a": tensor})])
    assert_same(tensors["a"], tensor)
    assert tensors.shape("a") == (2, 3, 4)


def test_views_of_one_storage(tmp_path):
    base = torch.arange(60, dtype=torch.float32).reshape(5, 12)
    content = OrderedDict(
        whole=base,
        shared=base,
        transposed=base.T,
        columns=base[1:, 3:7],
        strided=base[::2, ::5],
        expanded=base[0].expand(3, 12),
        scalar=base[4, 11],
        empty=base[:0],
        parameter=torch.nn.Parameter(base[2:4]),
    )
    tensors = Tensors([save(tmp_path, content)])
    assert list(tensors.keys()) == list(content)
    for name, tensor in content.items():
        assert_same(tensors[name], tensor)
    with pytest.raises(ValueError, match="read-only"):
        tensors["strided"][0] = 1


def test_state_dict_of_a_module(tmp_path):
    """A state dict carries `_metadata` beside its tensors, and tied tensors share a storage."""
    module = torch.nn.Sequential(torch.nn.Linear(3, 3), torch.nn.BatchNorm1d(3))
    module.tied = module[0]
    tensors = Tensors([save(tmp_path, module.state_dict())])
    for name, tensor in module.state_dict().items():
        assert_same(tensors[name], tensor)


def test_weight_files_prefer_safetensors_and_read_shards(tmp_path):
    with pytest.raises(CheckpointError, match="no model.safetensors nor pytorch_model.bin"):
        weight_files(tmp_path)
    torch.save({"a": torch.ones(2)}, tmp_path / "pytorch_model-00001-of-00002.bin")
    index = tmp_path / "pytorch_model.bin.index.json"
    index.write_text(
        '{"weight_map": {"a": "pytorch_model-00001-of-00002.bin",'
        ' "b": "pytorch_model-00002-of-00002.bin"}}'
    )
    with pytest.raises(CheckpointError, match="shards that are not there.*00002-of-00002"):
        weight_files(tmp_path)
    torch.save({"b": torch.zeros(3)}, tmp_path / "pytorch_model-00002-of-00002.bin")
    tensors = Tensors(weight_files(tmp_path))
    assert tensors.shape("a") == (2,) and tensors.shape("b") == (3,)
    (tmp_path / "model.safetensors").touch()
    assert weight_files(tmp_path) == [tmp_path / "model.safetensors"]


class Call:
    """Pickles as a call of `function`, which a plain unpickler would make."""

    def __init__(self, function, *args):
        self.call = function, args

    def __reduce__(self):
        return self.call


def forge(file, pickled: bytes, extra=()):
    """A zip of torch's layout around any pickle."""
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("archive/data.pkl", pickled)
        archive.writestr("archive/data/0", np.arange(4, dtype=np.float32).tobytes())
        for name, content in extra:
            archive.writestr(name, content)
    return file


@pytest.mark.parametrize(
    ("function", "args", "named"),
    [
        (os.system, ("touch PWNED",), "posix.system"),
        (eval, ("open('PWNED', 'w')",), "eval"),
        (getattr, ("", "join"), "getattr"),
        (pickle.loads, (b"",), "pickle.loads"),
        (torch.load, ("x",), "torch.serialization.load"),
        (np.load, ("x",), "numpy"),
    ],
    ids=lambda x: getattr(x, "__name__", None),
)
def test_malicious_pickles_are_refused_by_name(tmp_path, monkeypatch, function, args, named):
    monkeypatch.chdir(tmp_path)
    file = save(tmp_path, {"a": torch.ones(1), "b": Call(function, *args)})
    with pytest.raises(CheckpointError, match=f"pytorch_model.bin is refused.*({named}).*allowed"):
        Tensors([file])
    assert not (tmp_path / "PWNED").exists()


def test_whole_modules_are_refused_by_name(tmp_path):
    file = save(tmp_path, torch.nn.Linear(2, 2))
    with pytest.raises(CheckpointError, match="torch.nn.modules.linear.Linear"):
        Tensors([file])


# GLOBAL, then BUILD with slot state: sets attributes of the object that a name stands for.
ALTERS = b"\x80\x02c%s\n%s\nN}X\x08\x00\x00\x00functioncbuiltins\nlen\ns\x86b."


def test_a_pickle_cannot_alter_the_allowed_constructors(tmp_path):
    harmless = ALTERS.replace(b"cbuiltins\nlen\n", b"K\x01")
    for module, name in ((b"torch", b"Size"), (b"collections", b"OrderedDict")):
        file = forge(tmp_path / "a.bin", harmless % (module, name))
        with pytest.raises(CheckpointError, match="is refused"):
            Tensors([file])
    assert not hasattr(OrderedDict, "function")


def tensor_pickle(*view, kind="storage", key="0") -> bytes:
    """A pickle of one float tensor with any offset, shape and strides."""

    class Pickler(pickle.Pickler):
        def persistent_id(self, value):
            return (kind, torch.FloatStorage, key, "cpu", 4) if value is STORAGE else None

    stream = io.BytesIO()
    tensor = Call(torch._utils._rebuild_tensor_v2, STORAGE, *view, False, OrderedDict())
    Pickler(stream, protocol=2).dump({"a": tensor})
    return stream.getvalue()


STORAGE = object()


def test_forged_tensors_stay_inside_their_storage(tmp_path):
    file = tmp_path / "forged.bin"
    assert Tensors([forge(file, tensor_pickle(1, (3,), (1,)))])["a"].tolist() == [1, 2, 3]
    for view in (
        (2, (3,), (1,)),
        (0, (4,), (2,)),
        (-1, (2,), (1,)),
        (3, (2,), (-1,)),
        (0, (2,), ()),
    ):
        with pytest.raises(CheckpointError, match="forged.bin is refused: a tensor"):
            Tensors([forge(file, tensor_pickle(*view))])
    for options in ({"kind": "module"}, {"key": "7"}, {"key": "../data.pkl2"}):
        with pytest.raises(CheckpointError, match="forged.bin is refused"):
            Tensors([forge(file, tensor_pickle(0, (1,), (1,), **options))])


def test_other_formats_get_clear_errors(tmp_path):
    legacy = save(tmp_path, {"a": torch.ones(1)}, _use_new_zipfile_serialization=False)
    with pytest.raises(CheckpointError, match="before 1.6.*save_file.*'model.safetensors'"):
        Tensors([legacy])
    legacy.write_bytes(save(tmp_path, {"a": torch.ones(99)}).read_bytes()[:300])
    with pytest.raises(CheckpointError, match="truncated"):
        Tensors([legacy])
    big = forge(tmp_path / "big.bin", tensor_pickle(0, (1,), (1,)), [("archive/byteorder", b"big")])
    with pytest.raises(CheckpointError, match="little-endian storages, found big"):
        Tensors([big])
    with pytest.raises(CheckpointError, match="names to tensors, found a tensor"):
        Tensors([save(tmp_path, torch.ones(1))])
    with pytest.raises(CheckpointError, match="a tensor at 'epoch', found a int"):
        Tensors([save(tmp_path, {"epoch": 3})])
    with pytest.raises(CheckpointError, match="wanted one data.pkl"):
        with zipfile.ZipFile(tmp_path / "plain.bin", "w") as archive:
            archive.writestr("a", "b")
        Tensors([tmp_path / "plain.bin"])


@pytest.mark.parametrize("dtype", DTYPES[:3], ids=str)
def test_written_files_are_torchs(tmp_path, dtype):
    content = {
        "weight": torch.arange(24).reshape(2, 3, 4).to(dtype),
        "b.ias": torch.ones(1, dtype=dtype),
    }
    ours = Tensors([save(tmp_path, content)])
    save_torch(((name, ours[name]) for name in content), tmp_path / "again.pt")
    again = torch.load(tmp_path / "again.pt", weights_only=True)
    assert list(again) == list(content)
    for name, tensor in content.items():
        assert again[name].dtype == dtype and torch.equal(again[name], tensor)
        assert_same(Tensors([tmp_path / "again.pt"])[name], tensor)
