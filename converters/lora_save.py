"""A trained LoRA adapter as PEFT's files, which peft and `lora_path` read."""

import json
from collections.abc import Iterable
from pathlib import Path

import numpy as np
from safetensors.numpy import save_file

from converters.lora import CONFIG, WEIGHTS
from converters.report import CheckpointError
from jaxpool.nn.params import flatten


def kernels_named(checkpoint, targets: Iterable[str]) -> tuple[str, ...]:
    """The leaf names of the kernels of layers that are meant by PEFT's `target_modules`.

    A leaf name stands for itself, "all-linear" for every kernel, and what names no kernel stays.
    CheckpointError where a kernel is part of a fused tensor, which peft would adapt as a whole.
    """
    found: dict[str, list] = {}
    for layout in checkpoint.parts[0].layouts:
        for path in layout.row.paths:
            if path.startswith("layers.") and path.endswith(".kernel"):
                found.setdefault(path.split(".")[-2], []).append(layout)

    def meant(target: str) -> list[str]:
        if target in found:
            return [target]
        named = lambda row: f".{row.name}".endswith(f".{target}.weight")  # noqa: E731
        every = target == "all-linear"
        return [k for k, all_ in found.items() if every or any(named(x.row) for x in all_)]

    kinds = dict.fromkeys(kind for target in targets for kind in meant(target) or [target])
    for kind in kinds:
        for layout in found.get(kind, ()):
            _alone(layout, kind)
    return tuple(kinds)


def _alone(layout, kernel: str) -> None:
    if len(layout.row.paths) > 1:
        raise CheckpointError(f"LoRA: {kernel} lies fused with others in {layout.row.name}")


def save_adapter(checkpoint, params: dict, folder: Path, base: str, alpha: float) -> None:
    """Write adapter_model.safetensors and adapter_config.json of the adapter in `params`.

    base: what the checkpoint is called. CheckpointError as in `kernels_named`.
    """
    flat = {name: np.asarray(leaf) for name, leaf in flatten(params).items() if ".lora_" in name}
    layouts = {path: layout for layout in checkpoint.parts[0].layouts for path in layout.row.paths}
    tensors: dict[str, np.ndarray] = {}
    modules, rank, transposed = [], 0, False
    for name in sorted(name for name in flat if name.endswith("lora_a.kernel")):
        kernel = name.replace("lora_a.", "")
        layout = layouts[kernel]
        _alone(layout, kernel)
        a, b = flat[name], flat[name.replace("lora_a", "lora_b")]
        rank = a.shape[-1]
        transposed = layout.shape[0] != b[0].size // rank
        for (index, *_), tensor in layout.names():
            module = _module(checkpoint, tensor)
            modules.append(module)
            stem = f"base_model.model.{module}.lora_"
            tensors[f"{stem}A.weight"] = np.ascontiguousarray(a[index].reshape(-1, rank).T)
            tensors[f"{stem}B.weight"] = np.ascontiguousarray(b[index].reshape(rank, -1).T)
    folder.mkdir(parents=True, exist_ok=True)
    save_file(tensors, folder / WEIGHTS[0], metadata={"format": "pt"})
    config = {
        "peft_type": "LORA",
        "task_type": None,
        "base_model_name_or_path": base,
        "r": rank,
        "lora_alpha": alpha,
        "lora_dropout": 0.0,
        "bias": "none",
        "fan_in_fan_out": transposed,
        "inference_mode": True,
        "target_modules": modules,
    }
    (folder / CONFIG).write_text(json.dumps(config, indent=2), encoding="utf-8")


def _module(checkpoint, tensor: str) -> str:
    """The module of a tensor in the class that the checkpoint is of."""
    bare = tensor.removesuffix(".weight").removeprefix(checkpoint.family.prefix)
    headless = checkpoint.architecture.endswith("Model")
    return bare if headless else checkpoint.family.prefix + bare
