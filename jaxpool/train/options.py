"""The settings of a run, in Python or in a YAML file."""

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class TrainingOptions:
    """What a run does; the names of sentence-transformers' training arguments where it has them.

    loss: a name in `jaxpool.train.objectives`; loss_options: its settings; matryoshka_dims: leading
    features that it is summed over; batch_size: examples of a step, of all devices; chunk: packed
    rows at a time by GradCache, a multiple of `data`; max_steps, or else epochs; train: patterns of
    the names of what is trained; dropout: rates (hidden, attention), those of config.json if not
    given; compute: the dtype of products; prompts: what is put before the texts of a column;
    eval_steps, save_steps: 0 for never; keep: checkpoints that stay; data, model: devices of each
    axis of the mesh; fsdp: parameters are split over the data axis too;
    lora_rank: of adapters beside the kernels `lora_targets`, which alone are trained (0: none);
    lora_targets: leaf names, or module names as PEFT's target_modules;
    remat: what the backward pass keeps of a layer (`nn.remat`); guide: the model whose vectors the
    loss gist asks; report_to: "tensorboard", "wandb"; distributed: True, or the arguments of
    `jax.distributed.initialize`, in each of several processes that run the same script.
    """

    output: str
    loss: str = "info_nce"
    loss_options: Mapping[str, Any] = field(default_factory=dict)
    matryoshka_dims: tuple[int, ...] = ()
    batch_size: int = 64
    chunk: int | None = None
    epochs: int = 1
    max_steps: int | None = None
    learning_rate: float = 2e-5
    warmup_ratio: float = 0.1
    weight_decay: float = 0.0
    max_grad_norm: float = 1.0
    gradient_accumulation_steps: int = 1
    layer_decay: float = 1.0
    train: tuple[str, ...] = (".*",)
    dropout: tuple[float, float] | None = None
    remat: str = "products"
    compute: str = "float32"
    max_length: int | None = None
    prompts: Mapping[str, str] = field(default_factory=dict)
    no_duplicates: bool = True
    mix: str = "proportional"
    eval_steps: int = 0
    save_steps: int = 0
    logging_steps: int = 10
    keep: int = 2
    seed: int = 0
    data: int = 1
    model: int = 1
    fsdp: bool = False
    lora_rank: int = 0
    lora_alpha: float = 16.0
    lora_targets: tuple[str, ...] = ("query", "value")
    guide: str | None = None
    report_to: tuple[str, ...] = ()
    distributed: bool | Mapping[str, Any] = False

    def __post_init__(self):
        for name in ("batch_size", "epochs", "gradient_accumulation_steps", "data", "model"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")
        if self.compute not in ("float32", "bfloat16"):
            raise ValueError(f"compute must be float32 or bfloat16, got {self.compute!r}")
        if self.chunk is not None and (self.chunk < 1 or self.chunk % self.data):
            raise ValueError(f"chunk: wanted a multiple of data={self.data}, found {self.chunk}")


def read_options(path: Path) -> tuple[str, list[str], str | None, TrainingOptions]:
    """The model, the training files, the evaluation file and the options of a YAML file."""
    import yaml

    given = yaml.safe_load(path.read_text(encoding="utf-8"))
    if not isinstance(given, dict):
        raise ValueError(f"{path}: wanted a mapping of settings")
    known = {f.name for f in fields(TrainingOptions)} | {"base", "train_files", "eval_file"}
    if unknown := sorted(set(given) - known):
        raise ValueError(f"{path}: unknown settings {unknown}; known: {sorted(known)}")
    if missing := sorted({"base", "train_files", "output"} - set(given)):
        raise ValueError(f"{path}: wanted {missing}")
    base, files, evaluation = (
        given.pop("base"),
        given.pop("train_files"),
        given.pop("eval_file", None),
    )
    for name in ("matryoshka_dims", "train", "dropout", "lora_targets", "report_to"):
        if given.get(name) is not None:
            given[name] = tuple(given[name])
    files = [files] if isinstance(files, str) else files
    return base, files, evaluation, TrainingOptions(**given)
