"""A trained model as a folder of the checkpoint's own kind, with a card of the run."""

import json
from dataclasses import asdict
from pathlib import Path

from jaxpool.model import Model
from jaxpool.train.objectives import objective
from jaxpool.train.options import TrainingOptions


def save_model(
    model: Model, folder: Path, options: TrainingOptions, history: list[dict], count: int
) -> None:
    """Write weights in float32, the companions of the base, modules.json if it had none, a card."""
    from converters.heads.modules_file import add_modules

    folder.mkdir(parents=True, exist_ok=True)
    model.checkpoint.write(model.params, folder)
    if objective(options.loss).task == "embed":
        add_modules(folder, model.checkpoint, model.max_length, dict(options.prompts))
    (folder / "README.md").write_text(card(model, options, history, count), encoding="utf-8")


def card(model: Model, options: TrainingOptions, history: list[dict], count: int) -> str:
    """The model card: what it was made of, and how."""
    losses = [entry["loss"] for entry in history if "loss" in entry]
    found = [entry for entry in history if "loss" not in entry]
    facts = {
        "base": model.name,
        "examples": f"{count:,}",
        "steps": len(losses),
        "loss": f"{losses[0]:.4f} at the first step, {losses[-1]:.4f} at the last"
        if losses
        else "",
        "evaluation": json.dumps(found[-1]) if found else "",
        "devices": model.mesh.devices.size,
    }
    default = asdict(TrainingOptions(output=""))
    chosen = {k: v for k, v in asdict(options).items() if v != default[k] and k != "output"}
    rows = [f"| {name} | {value} |" for name, value in (facts | chosen).items() if value != ""]
    kind = "sentence-transformers" if "embed" in model.tasks else "text-classification"
    return "\n".join(
        [
            "---",
            f"base_model: {model.name}",
            "library_name: sentence-transformers",
            f"tags: [{kind}, jaxpool]",
            "---",
            "",
            f"# Fine-tuned from {model.name}",
            "",
            f"Trained with jaxpool by the loss `{options.loss}`.",
            "",
            "| | |",
            "|---|---|",
            *rows,
            "",
        ]
    )
