"""The strict report: a checkpoint's tensors against those its configuration asks for."""

import functools
import re
from collections.abc import Callable
from pathlib import Path
from typing import Concatenate, ParamSpec, TypeVar

Rest = ParamSpec("Rest")
Result = TypeVar("Result")


class CheckpointError(ValueError):
    """A checkpoint whose tensors are not those its configuration asks for."""


class ShapeError(CheckpointError):
    """A tensor whose shape contradicts config.json; `sizes` are those that config.json gave."""

    def __init__(self, message: str, sizes: set[int]):
        super().__init__(message)
        self.sizes = sizes


def about_its_folder(
    read: Callable[Concatenate[Path, Rest], Result],
) -> Callable[Concatenate[Path, Rest], Result]:
    """`read(folder, ...)` with whatever a malformed file makes it raise as a `CheckpointError`."""

    @functools.wraps(read)
    def checked(folder: Path, *arguments: Rest.args, **named: Rest.kwargs) -> Result:
        try:
            return read(folder, *arguments, **named)
        except RecursionError as error:
            raise CheckpointError(f"{folder}: its files are nested too deep") from error
        except (ValueError, OSError, ImportError, RuntimeError):
            raise
        except Exception as error:
            reason = f"{type(error).__name__}: {error}"
            raise CheckpointError(
                f"{folder}: its configuration cannot be read: {reason}"
            ) from error

    return checked


def check(made, source, ignored: tuple[str, ...] = ()) -> None:
    """Hold `rows.Layout`s against a source (names -> arrays).

    Raises `CheckpointError` with the missing and unexpected names, `ShapeError` for a shape.
    """
    wanted = [(name, layout) for layout in made for _, name in layout.names()]
    names = {name for name, _ in wanted}
    missing = sorted(names - source.keys())
    extra = source.keys() - names
    unexpected = sorted(n for n in extra if not any(re.search(p, n) for p in ignored))
    if missing or unexpected:
        raise CheckpointError(
            f"checkpoint does not fit its config.json: missing tensors {_cut(missing)}, "
            f"unexpected tensors {_cut(unexpected)}"
        )
    for name, layout in wanted:
        found = tuple(source.shape(name))
        if found != layout.shape:
            raise _shape_error(name, layout, found)


def _shape_error(name: str, layout, found: tuple[int, ...]) -> ShapeError:
    """Names the letters of the axes that differ."""
    message = f"tensor {name} contradicts config.json: "
    sizes = set(layout.shape)
    if len(found) == len(layout.shape):
        wrong = [i for i, size in enumerate(found) if size != layout.shape[i]]
        axes = re.findall(r"\([^)]*\)|\S+", layout.row.axes)
        message += f"axis {' and '.join(axes[i] for i in wrong)} differs, "
        letters = {x for i in wrong for x in re.findall(r"[A-Z]", axes[i])}
        sizes = {layout.shape[i] for i in wrong} | {layout.sizes[x] for x in letters}
    message += f"axes '{layout.row.axes}' want {layout.shape}, found {found}"
    return ShapeError(message, sizes)


def _cut(names: list[str], most: int = 20) -> str:
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return f"[{', '.join(names[:most])}{more}]"
