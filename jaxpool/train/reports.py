"""The curve of a run in TensorBoard or Weights & Biases, through their own libraries."""

from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from typing import Any

LIBRARIES = {"tensorboard": "tensorboardX", "wandb": "wandb"}


class Reports:
    """Where the numbers of a run go as they come: `write(step, numbers)`, then `close()`.

    names: "tensorboard" (written to the run's folder) and "wandb" (a run with its settings);
    ValueError for another, ImportError where a library is not installed.
    """

    def __init__(self, names: tuple[str, ...], folder: Path, settings: Mapping[str, Any]):
        libraries = {name: _library(name) for name in names}
        self._board = self._run = None
        if "tensorboard" in libraries:
            self._board = libraries["tensorboard"].SummaryWriter(str(folder / "tensorboard"))
        if "wandb" in libraries:
            self._run = libraries["wandb"].init(dir=str(folder), config=dict(settings))

    def write(self, step: int, numbers: Mapping[str, float]) -> None:
        """The numbers of a step, by name."""
        if self._board:
            for name, value in numbers.items():
                self._board.add_scalar(name, value, step)
        if self._run:
            self._run.log(dict(numbers), step=step)

    def close(self) -> None:
        """Write what is left."""
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
