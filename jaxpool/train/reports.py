"""The curve of a run: in its folder, and in TensorBoard or Weights & Biases by their libraries."""

import json
from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from typing import Any

HISTORY = "history.jsonl"
LIBRARIES = {"tensorboard": "tensorboardX", "wandb": "wandb"}


def past(folder: Path, step: int) -> list[dict]:
    """The numbers of a run up to a step, after which its file ends from now on.

    What a killed process wrote after its last checkpoint comes again.
    """
    file = folder / HISTORY
    entries: list[dict] = []
    for line in file.read_text(encoding="utf-8").splitlines() if file.is_file() else ():
        try:
            entries.append(json.loads(line))
        except json.JSONDecodeError:
            break  # the process was killed while it wrote
    kept = [entry for entry in entries if entry["step"] <= step]
    folder.mkdir(parents=True, exist_ok=True)
    beside = file.with_suffix(".new")
    beside.write_text("".join(json.dumps(entry) + "\n" for entry in kept), encoding="utf-8")
    beside.replace(file)
    return kept


class Reports:
    """Where the numbers of a run go as they come: `write(step, numbers)`, then `close()`.

    They are lines of the file `HISTORY` of the run's folder. names: "tensorboard" (written to that
    folder too) and "wandb" (a run with its settings), or None in a process that tells nothing;
    ValueError for another, ImportError where a library is not installed.
    """

    def __init__(self, names: tuple[str, ...] | None, folder: Path, settings: Mapping[str, Any]):
        libraries = {name: _library(name) for name in names or ()}
        self._file = None if names is None else (folder / HISTORY).open("a", encoding="utf-8")
        self._board = self._run = None
        if "tensorboard" in libraries:
            self._board = libraries["tensorboard"].SummaryWriter(str(folder / "tensorboard"))
        if "wandb" in libraries:
            self._run = libraries["wandb"].init(dir=str(folder), config=dict(settings))

    def write(self, step: int, numbers: Mapping[str, float]) -> None:
        """The numbers of a step, by name."""
        if self._file:
            self._file.write(json.dumps({"step": step} | dict(numbers)) + "\n")
            self._file.flush()
        if self._board:
            for name, value in numbers.items():
                self._board.add_scalar(name, value, step)
        if self._run:
            self._run.log(dict(numbers), step=step)

    def close(self) -> None:
        """Write what is left."""
        if self._file:
            self._file.close()
        if self._board:
            self._board.close()
        if self._run:
            self._run.finish()


def _library(name: str) -> Any:
    if name not in LIBRARIES:
        raise ValueError(f"report_to: unknown {name!r}; known: {', '.join(LIBRARIES)}")
    try:
        return import_module(LIBRARIES[name])
    except ImportError as error:
        raise ImportError(f"report_to {name!r} needs `pip install {LIBRARIES[name]}`") from error
