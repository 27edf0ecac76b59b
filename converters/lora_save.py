"""A trained LoRA adapter as PEFT's files, which peft and `lora_path` read."""

import json
from pathlib import Path

import numpy as np
from safetensors.numpy import save_file

from converters.lora import CONFIG, WEIGHTS
from converters.report import CheckpointError
from jaxpool.nn.params import flatten


def save_adapter(checkpoint, params: dict, folder: Path, base: str, alpha: float) -> None:
    """Write adapter_model.safetensors and adapter_config.json of the adapter in `params`.

    base: what the checkpoint is called. CheckpointError where a kernel is part of a fused tensor,
    which peft would adapt as a whole.
    """
    flat = {name: np.asarray(leaf) for name, leaf in flatten(params).items() if ".lora_" in name}
    layouts = {path: layout for layout in checkpoint.parts[0].layouts for path in layout.row.paths}
    tensors: dict[str, np.ndarray] = {}
    modules, rank, transposed = [], 0, False
    for name in sorted(name for name in flat if name.endswith("lora_a.kernel")):
        kernel = name.replace("lora_a.", "")
        layout = layouts[kernel]
        if len(layout.row.paths) > 1:
            raise CheckpointError(f"{kernel} lies fused with others in {layout.row.name}")
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
