"""config.json as a transformers configuration object, under a caller's overrides."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from converters.family import Family
from converters.files import read_json
from converters.registry import find
from converters.report import CheckpointError
from converters.rotary import stretched


def read_config(
    folder: Path, overrides: Mapping | Callable | None = None, model_type: str | None = None
) -> tuple[Family, Any]:
    """The family of a folder, and its config.json as a transformers configuration object.

    The object knows the defaults that the file omits. `overrides` is a dict of fields (nested
    dicts are merged) or a function config -> config. Never runs code from the checkpoint.
    `model_type` is that of a folder which has no config.json.
    """
    raw = read_json(folder / "config.json", default=model_type and {"model_type": model_type})
    if callable(overrides):
        config = overrides(_config(find(raw), raw))
        return find(raw | {"architectures": config.architectures}), config
    given = dict(overrides or {})
    family = find(raw | given)
    given = {family.aliases.get(name, name): value for name, value in given.items()}
    config = _config(family, raw)
    # Fields that are read into others (rope_theta) only count when it is made.
    if unknown := {name: value for name, value in given.items() if not hasattr(config, name)}:
        config = _config(family, raw | unknown)
    for name in given.keys() - unknown:
        setattr(config, name, _merged(name, getattr(config, name), given[name]))
    return family, config


def _merged(name: str, present, value):
    if name in ("rope_scaling", "rope_parameters"):
        return stretched(present, value)
    merge = isinstance(present, dict) and present and isinstance(value, Mapping)
    return {**present, **value} if merge else value


def _config(family: Family, raw: dict):
    from huggingface_hub.errors import StrictDataclassError
    from transformers.models.auto.configuration_auto import CONFIG_MAPPING

    raw = {family.aliases.get(name, name): value for name, value in raw.items()}
    try:
        return CONFIG_MAPPING[family.config or raw["model_type"]].from_dict(raw)
    except (StrictDataclassError, ValueError, KeyError, TypeError) as error:
        reason = " ".join(str(error.args[0] if error.args else error).split())
        raise CheckpointError(f"config.json: {reason}") from error
