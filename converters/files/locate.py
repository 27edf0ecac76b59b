"""The local folder of a model's name: a folder, a Hub id, or a folder in an installed package."""

import importlib.util
import os
from functools import partial
from pathlib import Path

from converters.files.folder import read_json
from converters.files.paths import check_links
from jaxpool.engine.remote import fetch, is_remote

WANTED = ["*.json", "*.txt", "*.model", "*.jinja", "*.metadata", "*.safetensors"]
WANTED += ["[0-9]_*/*.bin", "*_linear.pt"]  # small modules that have no other file


def resolve(model: str | os.PathLike, revision: str | None = None) -> Path:
    """The local folder of a model name: a folder, `pkg://package/path`, a URL, or a Hub id.

    Of a URL that fsspec reads (gs://, s3://, ...) it is a copy (see `jaxpool.engine.remote`).

    Hub ids are fetched through huggingface_hub into its cache (`HF_HOME`, `HF_HUB_OFFLINE` and
    `HF_TOKEN` work as everywhere). Raises `FileNotFoundError` with what was tried, and
    `CheckpointError` where a link in the folder leads out of it.
    """
    folder = _find(os.fspath(model), revision)
    check_links(folder)
    return folder


def _find(name: str, revision: str | None) -> Path:
    if name.startswith("pkg://"):
        return _package_folder(name)
    if is_remote(name):
        return fetch(name, WANTED)
    if (folder := Path(name).expanduser()).is_dir():
        return folder
    if name.startswith((".", "/", "~")) or name.count("/") > 1:
        raise FileNotFoundError(f"no such model folder: {name}")
    return _hub_folder(name, revision)


def _package_folder(name: str) -> Path:
    package, _, inside = name.removeprefix("pkg://").partition("/")
    spec = importlib.util.find_spec(package) if package.isidentifier() else None
    if spec is None or not spec.submodule_search_locations:
        raise FileNotFoundError(
            f"{name}: no installed Python package {package!r} (pip install the one that has it)"
        )
    folder = Path(next(iter(spec.submodule_search_locations))) / inside
    if ".." in Path(inside).parts or not folder.is_dir():
        raise FileNotFoundError(f"{name}: package {package!r} has no folder {inside!r}")
    return folder


def _hub_folder(name: str, revision: str | None) -> Path:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    training = ["checkpoint-*/*"]  # left by a training run
    fetch = partial(snapshot_download, name, revision=revision, ignore_patterns=training)
    try:
        folder = Path(fetch(allow_patterns=WANTED))
        if bins := _lacking(folder):
            fetch(allow_patterns=bins)
    except (HfHubHTTPError, HFValidationError, LocalEntryNotFoundError, OSError) as error:
        reason = str(error).strip().splitlines()[0]
        raise FileNotFoundError(
            f"no such model: {name!r} is neither a local folder nor a Hub id that can be "
            f"fetched or found in the cache ({reason})"
        ) from error
    return folder


def _lacking(folder: Path) -> list[str]:
    """The .bin files to fetch: of each model and adapter with no safetensors of its own.

    Those elsewhere in the repository are of other modules.
    """
    found = []
    for name, stem in (("config.json", "model"), ("adapter_config.json", "adapter_model")):
        for file in folder.rglob(name):
            model = stem != "model" or "model_type" in read_json(file)
            if model and not any(file.parent.glob(f"{stem}*.safetensors")):
                found.append((file.parent / f"*{stem}*.bin").relative_to(folder).as_posix())
    return found
