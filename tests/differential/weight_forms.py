"""Weight files in the forms in which they are found: shards, .bin, leftovers, dtypes, names."""

import json
import random
from pathlib import Path
from typing import Any

import torch
import transformers as hf
from safetensors.torch import load_file, save_file


def write(file: Path, content: Any) -> None:
    """Put JSON into a file, whatever it was."""
    file.parent.mkdir(parents=True, exist_ok=True)
    file.unlink(missing_ok=True)
    file.write_text(json.dumps(content))


def weights(rng: random.Random, folder: Path, family: str, forms=()) -> str:
    """Write the weights again in one of the forms in which they are found."""
    form = rng.choice(["as saved", *(forms or FORMS)])
    if form in FORMS:
        file = folder / "model.safetensors"
        tensors = load_file(file)
        file.unlink()
        FORMS[form](folder, tensors, getattr(hf, f"{family}Model").base_model_prefix)
    return form


def _shards(folder: Path, tensors: dict, stem: str = "model", ending: str = "safetensors") -> None:
    names, files = sorted(tensors), {}
    for number, start in enumerate(range(0, len(names), 9)):
        file = f"{stem}-{number + 1:05}.{ending}"
        part = {name: tensors[name] for name in names[start : start + 9]}
        if ending == "bin":
            torch.save(part, folder / file)
        else:
            save_file(part, folder / file, metadata={"format": "pt"})
        files |= dict.fromkeys(part, file)
    write(folder / f"{stem}.{ending}.index.json", {"metadata": {}, "weight_map": files})


def _whole(folder: Path, tensors: dict) -> None:
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})


def _stale_index(folder: Path, tensors: dict, prefix: str) -> None:
    _whole(folder, tensors)
    names = dict.fromkeys(tensors, "model-00001-of-00002.safetensors")
    write(folder / "model.safetensors.index.json", {"metadata": {}, "weight_map": names})


def _stale_bin(folder: Path, tensors: dict, prefix: str) -> None:
    _whole(folder, tensors)
    torch.save({name: -tensor for name, tensor in tensors.items()}, folder / "pytorch_model.bin")


def _half(dtype: torch.dtype, said: Any):
    def save(folder: Path, tensors: dict, prefix: str) -> None:
        _whole(folder, {name: tensor.to(dtype) for name, tensor in tensors.items()})
        config = json.loads((folder / "config.json").read_text())
        config.pop("dtype", None)
        write(folder / "config.json", config | said)

    return save


def _older_names(folder: Path, tensors: dict, prefix: str) -> None:
    """LayerNorm.gamma and beta, as TensorFlow's conversions have them."""
    ends = {"LayerNorm.weight": "LayerNorm.gamma", "LayerNorm.bias": "LayerNorm.beta"}
    for end, old in ends.items():
        tensors = {name.replace(end, old): tensor for name, tensor in tensors.items()}
    torch.save(tensors, folder / "pytorch_model.bin")


FORMS = {
    "shards": lambda folder, tensors, prefix: _shards(folder, tensors),
    "bin": lambda folder, tensors, prefix: torch.save(tensors, folder / "pytorch_model.bin"),
    "bin shards": lambda folder, tensors, prefix: _shards(folder, tensors, "pytorch_model", "bin"),
    "old bin": lambda folder, tensors, prefix: torch.save(
        tensors, folder / "pytorch_model.bin", _use_new_zipfile_serialization=False
    ),
    "stale index": _stale_index,
    "bin beside": _stale_bin,
    "prefix": lambda folder, tensors, prefix: _whole(
        folder, {f"{prefix}.{name}": tensor for name, tensor in tensors.items()}
    ),
    "float16": _half(torch.float16, {"dtype": "float16"}),
    "bfloat16": _half(torch.bfloat16, {"torch_dtype": "bfloat16"}),
    "float64": _half(torch.float64, {}),
    "older names": _older_names,
    "parts": lambda folder, tensors, prefix: _whole(
        folder, tensors | {"lm_head.weight": torch.zeros(3, 3)}
    ),
}
