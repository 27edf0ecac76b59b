"""Fields of preprocessor_config.json, checked before anything of their size is made."""

from typing import Any

from converters.report import CheckpointError

MOST_SIDE = 2**13  # of a picture as a model takes it


def whole(name: str, value: Any, most: int = MOST_SIDE, least: int = 1) -> int:
    """A whole number that a model may want."""
    if type(value) is not int or not least <= value <= most:
        raise wrong(name, f"{least} to {most}", value)
    return value


def channels(name: str, value: Any) -> tuple[float, ...]:
    """A number for each channel, of one for all or of a list."""
    found = value if isinstance(value, list | tuple) else [value] * 3
    if len(found) != 3 or not all(isinstance(x, int | float) and abs(x) < 1e9 for x in found):
        raise wrong(name, "a number or one for each of three channels", value)
    return tuple(map(float, found))


def wrong(name: str, wanted: str, found: Any) -> CheckpointError:
    """The error of a field."""
    return CheckpointError(
        f"preprocessor_config.json: {name} must be {wanted}, found {str(found)[:100]}"
    )
