"""LoRA: a PEFT adapter merged into its base as tensors are read.

Sources: LoRA (arXiv 2106.09685), rsLoRA's scale (arXiv 2312.03732), DoRA (arXiv 2402.09353).
"""

import re
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np

from converters.files.folder import read_json
from converters.files.locate import resolve
from converters.files.paths import inside
from converters.files.tensors import Tensors, has_weights, weight_files
from converters.report import CheckpointError
from jaxpool.engine.remote import is_remote

CONFIG = "adapter_config.json"
SUBFOLDER = "lora"  # where an adapter lies that belongs to the config.json above it
MERGED = "merged_adapter"  # of an exported config.json: the adapter that its weights contain
MAGNITUDE = ".lora_magnitude_vector"
OTHER = re.compile(r"\.lora_[AB]\.(?!weight$)")  # a tensor of one of several adapters
WEIGHTS = ("adapter_model.safetensors", "adapter_model.bin")
# Settings that change base + scale * B A; all others matter in training only.
REFUSED = (
    "lora_bias",
    "use_qalora",
    "use_bdlora",
    "layer_replication",
    "target_parameters",
    "trainable_token_indices",
    "alora_invocation_tokens",
    "megatron_config",
)


def place(named: Path) -> tuple[Path, str]:
    """The folder of an adapter, and its name where a file has several (jina-embeddings-v4)."""
    return (named, "") if (named / CONFIG).is_file() else (named.parent, named.name)


class Found(NamedTuple):
    """Where a model's config.json lies, where its weights, and its adapter."""

    config: Path
    base: Path
    adapter: Path | None


def find(folder: Path, named: Path | None) -> Found:
    """The files of a model, and its adapter: `named`, or the one in the folder or its `lora/`.

    A folder with an adapter and no weights refers to its base by name; above `lora/` it has a
    config.json of its own, which changes that of the base (splade-code-8B).
    """
    below = folder / SUBFOLDER
    if not named and not (folder / CONFIG).is_file() and (below / CONFIG).is_file():
        return Found(folder, folder if has_weights(folder) else _base(below), below)
    if named and not (place(named)[0] / CONFIG).is_file():
        raise FileNotFoundError(f"no LoRA adapter in {named}: it has no {CONFIG}")
    if named or not (folder / CONFIG).is_file():
        return Found(folder, folder, named)
    base = folder if has_weights(folder) else _base(folder)
    return Found(base, base, folder)


def _base(folder: Path) -> Path:
    """The folder of the base that an adapter names."""
    name = read_json(folder / CONFIG).get("base_model_name_or_path")
    if not name:
        raise CheckpointError(f"{CONFIG}: wanted base_model_name_or_path, or weights beside it")
    if is_remote(name):
        raise CheckpointError(
            f"{CONFIG}: base_model_name_or_path is a URL, which only you may name"
        )
    return resolve(name)


def own(folder: Path, config, wanted: str) -> Path | None:
    """The adapter at `wanted` in the model's own folder; None where it has been merged."""
    merged = getattr(config, MERGED, None)
    if merged not in (None, wanted):
        raise CheckpointError(f"{merged} is merged into these weights: {wanted} needs the original")
    return None if merged else inside(folder, wanted)


class Delta(NamedTuple):
    """The names of a low-rank update in the adapter's file, and how it is added.

    magnitude: the lengths that DoRA gives the vectors of the sum, or "".
    """

    a: str
    b: str
    magnitude: str
    scale: float
    transposed: bool

    def merge(self, base: np.ndarray, adapter) -> np.ndarray:
        """The base with the update, in float32."""
        parts = (n for n in (self.a, self.b, self.magnitude) if n)
        a, b, *lengths = (adapter[name].astype(np.float32) for name in parts)
        update = self.scale * (b @ a)
        whole = base.astype(np.float32) + (update.T if self.transposed else update)
        for length in lengths:  # of the weights of each output: a row, or a column if transposed
            length = length if self.transposed else length[:, None]
            whole *= length / np.linalg.norm(whole, axis=1 - self.transposed, keepdims=True)
        return whole


class Merged:
    """The tensors of a base with those of an adapter folder added; reads like `files.Tensors`.

    deltas: updates by the base's name of a tensor; whole: the adapter's name of each tensor that it
    replaces. rename: as the base's; prefix: what the base's names may have more, or less, than the
    adapter's. Raises `CheckpointError` for other adapters than LoRA, and for one of another base.
    """

    def __init__(self, base: Tensors, folder: Path, rename: Callable[[str], str], prefix: str):
        self._base, self._prefix = base, prefix
        folder, task = place(folder)
        self._config = _read_config(folder)
        files = weight_files(folder, WEIGHTS)
        self._adapter = Tensors(files, lambda name: _of_task(module_name(name), task))
        self.deltas: dict[str, Delta] = {}
        self.whole: dict[str, str] = {}  # biases and modules_to_save: our name -> the adapter's
        # Whole tensors first: an update may be of one (PEFT saves embeddings that it adapts).
        for name in sorted(self._adapter.keys(), key=lambda name: ".lora_" in name):
            if not (task and OTHER.search(name)):
                self._add(name, rename)
        if task and not self.deltas:
            raise FileNotFoundError(f"no LoRA adapter {task!r} in {folder}")
        used = {delta.magnitude for delta in self.deltas.values()}
        if lone := {n for n in self._adapter.keys() if n.endswith(MAGNITUDE)} - used:
            raise CheckpointError(
                f"adapter tensors {sorted(lone)}: wanted use_dora, lora_A and lora_B with them"
            )

    def _add(self, name: str, rename: Callable[[str], str]) -> None:
        copied = f"{MAGNITUDE}.weight"  # PEFT writes that of a whole embedding twice
        if ".original_module." in name or name.endswith((MAGNITUDE, copied)):
            return
        if ".lora_" not in name:
            ours = rename(re.sub(r"\.modules_to_save(\.default)?\.", ".", name))
            self.whole[self._find(ours) or ours] = name
            return
        found = re.fullmatch(r"(.*)\.lora_(embedding_)?([AB])(\.weight)?", name)
        if not found:
            raise CheckpointError(f"adapter tensor {name}: wanted lora_A and lora_B, biases")
        module, embedding, _, ending = found.groups("")
        stem = f"{module}.lora_{embedding}"
        a, b = (f"{stem}{part}{ending}" for part in "AB")
        magnitude = module + MAGNITUDE if self._config.get("use_dora") else ""
        if missing := {a, b, magnitude} - {"", *self._adapter.keys()}:
            raise CheckpointError(f"adapter tensors {sorted(missing)}: wanted beside {name}")
        transposed = bool(embedding) or bool(self._config.get("fan_in_fan_out"))
        scale = self._scale(module, self._adapter.shape(a)[0])
        delta = Delta(a, b, magnitude, scale, transposed)
        self.deltas[self._target(rename(f"{module}.weight"), module, delta)] = delta

    def _find(self, name: str) -> str | None:
        """The base's spelling of a name: as it is, with the prefix, or without."""
        for known in (name, self._prefix + name, name.removeprefix(self._prefix)):
            if known in self._base.keys():
                return known
        return None

    def _scale(self, module: str, rank: int) -> float:
        alpha = self._config.get("lora_alpha", 8)
        for pattern, value in (self._config.get("alpha_pattern") or {}).items():
            if re.match(rf"(.*\.)?({pattern})$", module):
                alpha = value
                break
        return alpha / (rank**0.5 if self._config.get("use_rslora") else rank)

    def _target(self, name: str, module: str, delta: Delta) -> str:
        """The base's spelling of the tensor that an update changes, which it must fit."""
        target = self._find(name)
        wanted = (self._adapter.shape(delta.b)[0], self._adapter.shape(delta.a)[1])
        wanted = wanted[::-1] if delta.transposed else wanted
        found = self.shape(target) if target else "no such tensor"
        if target is None or found != wanted:
            raise CheckpointError(
                f"{CONFIG}: the adapter is for another base "
                f"({self._config.get('base_model_name_or_path')}): {module}.weight "
                f"wanted {wanted}, found {found}"
            )
        return target

    def brings(self, name: str) -> bool:
        """Whether the adapter has a whole tensor in place of the base's, of any size."""
        return name in self.whole

    def keys(self):
        """The names of the base, and of the modules only the adapter has (a trained head)."""
        return self._base.keys() | self.whole.keys()

    def shape(self, name: str) -> tuple[int, ...]:
        """The shape of a tensor."""
        whole = self.whole.get(name)
        return self._adapter.shape(whole) if whole else self._base.shape(name)

    def dtype(self, name: str) -> str:
        """The dtype of a tensor as safetensors spells it: the base's where it has the tensor."""
        has = name in self._base.keys()
        return self._base.dtype(name) if has else self._adapter.dtype(self.whole[name])

    def describe(self) -> dict[str, dict]:
        """The shape, dtype and samples of every tensor, those of its update among them."""
        own, base = self._adapter.describe(), self._base.describe()
        facts = {n: {"shape": list(self.shape(n)), "dtype": self.dtype(n)} for n in self.keys()}
        for name, fact in facts.items():
            delta, whole = self.deltas.get(name), self.whole.get(name)
            parts = [own[whole]] if whole else [base[name]]
            parts += [own[part] for part in (delta.a, delta.b)] if delta else []
            scale = [str(delta.scale)] if delta else []
            fact["sample"] = " ".join([part["sample"] for part in parts] + scale)
        return facts

    def __getitem__(self, name: str) -> np.ndarray:
        """A tensor; sums are made in float32 and have the dtype of the base."""
        whole, delta = self.whole.get(name), self.deltas.get(name)
        base = self._adapter[whole] if whole else self._base[name]
        return base if delta is None else delta.merge(base, self._adapter).astype(base.dtype)


def _read_config(folder: Path) -> dict:
    config = read_json(folder / CONFIG)
    kind = config.get("peft_type")
    if kind != "LORA":
        raise CheckpointError(f"{CONFIG}: wanted peft_type LORA, found {kind}")
    for field in REFUSED:
        if config.get(field):
            raise CheckpointError(f"{CONFIG}: {field}={config[field]!r} is not supported")
    return config


def _of_task(name: str, task: str) -> str:
    """The name without that of its adapter, if it is `task`'s."""
    return (
        re.sub(rf"\.(lora_[AB])(\.default)?\.{re.escape(task)}\.", r".\1.", name) if task else name
    )


def module_name(name: str) -> str:
    """The name in the base model of what PEFT wraps."""
    return name.removeprefix("base_model.model.").replace(".base_layer.", ".")
