"""config.json as plain data, with what transformers adds to it, kept for later starts."""

import hashlib
import json
from collections.abc import Callable, Iterable, Mapping
from importlib.metadata import version
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from converters.family import Family
from converters.files.folder import keep, read_json
from converters.registry import find
from converters.report import CheckpointError
from converters.rotary import stretched

GLINER = "gliner_config.json"
# No model has more of what a field's name counts: the first pattern in it decides.
LIMITS = {"layer": 2**12, "expert": 2**13, "head": 2**16, "label": 2**20, "size": 2**31, "": 2**99}


class Config(SimpleNamespace):
    """The fields of a transformers configuration object, without transformers.

    They have the names that all configurations share too (`hidden_size`). `own`: those that its
    class knows; other keys of a config.json are carried along. `file`: the name under which it is
    kept for later starts, if it is.
    """

    def __init__(self, fields: Mapping[str, Any], own: Iterable[str], file: str = ""):
        labels = {int(index): name for index, name in fields["id2label"].items()}
        parts = {name: Config(**x) for name, x in fields.items() if _is_config(x)}
        super().__init__(**{**fields, **parts, "id2label": labels})
        self._own = frozenset(own)
        self._kept = file, json.dumps({"fields": fields, "own": own})

    @property
    def num_labels(self) -> int:
        """How many classes a classifier has."""
        return len(self.id2label)

    @num_labels.setter
    def num_labels(self, count: int) -> None:
        if count != self.num_labels:  # those there are keep their names
            self.id2label = {index: f"LABEL_{index}" for index in range(count)}
            self.label2id = {name: index for index, name in self.id2label.items()}

    def knows(self, name: str) -> bool:
        """Whether a field is one of the configuration's class, and no stray key."""
        return name in self._own

    def to_dict(self) -> dict[str, Any]:
        """The fields by name."""
        fields = {name: value for name, value in vars(self).items() if name[0] != "_"}
        return {n: x.to_dict() if isinstance(x, Config) else x for n, x in fields.items()}

    def keep(self, store: Path) -> None:
        """Write into a folder, as it was read, what later starts read in place of transformers."""
        name, text = self._kept
        if name and not (store / name).is_file():
            keep(store, name, text)


def _is_config(value: Any) -> bool:
    """Whether a field is the configuration of a part, as `_plain` writes it."""
    return isinstance(value, dict) and value.keys() == {"fields", "own"}


def read_config(
    folder: Path,
    overrides: Mapping | Callable | None = None,
    model_type: str | None = None,
    store: Path | None = None,
) -> tuple[Family, Config]:
    """The family of a folder, and its config.json with the defaults that the file omits.

    `overrides` is a dict of fields (nested dicts are merged) or a function of the transformers
    object that returns one. Never runs code from the checkpoint. `model_type` is that of a folder
    which has no config.json. What comes out is kept in the folder `store`: to import transformers,
    which knows the defaults, takes longer than all else of a start but JAX.
    """
    raw = _raw(folder, model_type)
    _check_numbers(raw)
    if callable(overrides):
        family = find(raw)
        config = overrides(_config(family, _renamed(family, family.unfold(raw))))
        return find(raw | {"architectures": config.architectures}), Config(**_plain(config))
    given = dict(overrides or {})
    family = find(raw | given)
    raw, given = _renamed(family, family.unfold(raw)), _renamed(family, given)
    file = f"config-{_digest([family.config, raw, given])}.json"
    if store and (store / file).is_file():
        plain = json.loads((store / file).read_text(encoding="utf-8"))
        return family, Config(**plain, file=file)
    config = Config(**_plain(_overridden(family, raw, given)), file=file)
    if store:
        config.keep(store)
    return family, config


def _raw(folder: Path, model_type: str | None) -> dict:
    """The fields of config.json, or of a file that says the same by another name."""
    other = folder / GLINER
    if not (folder / "config.json").is_file() and other.is_file():
        return read_json(other) | {"model_type": "gliner"}
    return read_json(folder / "config.json", default=model_type and {"model_type": model_type})


def _check_numbers(fields: Mapping) -> None:
    """Refuse counts that no model has, before anything is made that many times."""
    for name, value in fields.items():
        if isinstance(value, Mapping):
            _check_numbers(value)
            continue
        most = next(most for part, most in LIMITS.items() if part in str(name))
        values = value if isinstance(value, list) else [value]
        if bad := [x for x in values if isinstance(x, int) and not -most <= x <= most]:
            raise CheckpointError(f"config.json: {name}={bad[0]} is more than any model has")


def _renamed(family: Family, fields: Mapping) -> dict:
    return {family.aliases.get(name, name): value for name, value in fields.items()}


def _digest(read: list) -> str:
    """A digest of all that decides what comes out, this file among it."""
    made_by = [version("transformers"), Path(__file__).read_text(encoding="utf-8")]
    text = json.dumps(made_by + read, sort_keys=True, default=repr)
    return hashlib.sha256(text.encode()).hexdigest()[:32]


def _plain(config) -> dict[str, Any]:
    """The arguments of `Config`, as JSON has them."""
    written = config.to_dict()
    names = (*written, *config.attribute_map)
    layers = {key: x for key, x in written.items() if key == "per_layer_config"}
    if layers:  # other fields are then those of the layers that it does not name
        config.allow_global_per_layer_attribute_access = True
    # The attributes themselves: Gemma 3 halves its window when made, and doubles it when written.
    fields = {name: getattr(config, name) for name in names} | layers
    parts = {name: _plain(x) for name, x in fields.items() if hasattr(x, "attribute_map")}
    fields |= parts
    own = [name for name in names if hasattr(type(config), name)]
    return json.loads(json.dumps({"fields": fields, "own": own}, default=str))


def _overridden(family: Family, raw: dict, given: dict):
    config = _config(family, raw)
    # Fields that are read into others (rope_theta) only count when it is made.
    if unknown := {name: value for name, value in given.items() if not hasattr(config, name)}:
        config = _config(family, raw | unknown)
    for name in given.keys() - unknown:
        setattr(config, name, _merged(name, getattr(config, name), given[name]))
    return config


def _merged(name: str, present, value):
    if name in ("rope_scaling", "rope_parameters"):
        return stretched(present, value)
    merge = isinstance(present, dict) and present and isinstance(value, Mapping)
    return {**present, **value} if merge else value


def _config(family: Family, raw: dict):
    """The transformers object of fields under the names that it has for them."""
    from huggingface_hub.errors import StrictDataclassError
    from transformers.models.auto.configuration_auto import CONFIG_MAPPING

    try:
        return CONFIG_MAPPING[family.config or raw["model_type"]].from_dict(raw)
    except (StrictDataclassError, ValueError, KeyError, TypeError) as error:
        reason = " ".join(str(error.args[0] if error.args else error).split())
        raise CheckpointError(f"config.json: {reason}") from error
