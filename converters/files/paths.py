"""Where the names and links of a checkpoint may lead, and where what is made of it is written."""

import os
import shutil
from pathlib import Path

from converters.report import CheckpointError


def inside(folder: Path, name: object) -> Path:
    """The path of a name that a checkpoint's own files give: it stays in the folder."""
    if not isinstance(name, str) or "\0" in name:
        raise CheckpointError(f"{folder}: wanted the name of a file, found {name!r}")
    if not (folder / name).resolve().is_relative_to(folder.resolve()) and not _in_cache(
        folder, folder / name
    ):
        raise CheckpointError(f"{folder}: {name!r} leads out of the folder")
    return folder / name


def check_links(folder: Path) -> None:
    """Refuse a folder with a link to what lies outside: whoever made it could read your files.

    The Hub's cache is made of links into the `blobs` beside its snapshots.
    """
    root = folder.resolve()
    for place, folders, files in os.walk(root):
        folders[:] = [name for name in folders if not name.startswith(".")]  # nothing reads these
        for name in (*folders, *files):
            path = Path(place, name)
            if path.is_symlink() and not (
                path.resolve().is_relative_to(root) or _in_cache(root, path)
            ):
                raise CheckpointError(f"{path} is a link out of the checkpoint: put a copy there")


def _in_cache(folder: Path, path: Path) -> bool:
    """Whether a path of a snapshot in the Hub's cache is one of the cache's own links."""
    for parent in folder.resolve().parents:
        if parent.name == "snapshots":
            return path.resolve().is_relative_to(parent.parent / "blobs")
    return False


def fresh(folder: Path, source: Path, force: bool = False) -> Path:
    """A folder for what is made of `source`; refused where it has content, or emptied by `force`.

    What is written in it is thus created, and follows no link that lay there.
    """
    if folder.is_symlink() or (folder.exists() and not folder.is_dir()):
        raise ValueError(f"{folder} is a link or a file: wanted a folder to write")
    if folder.is_dir() and any(folder.iterdir()):
        if not force:
            raise ValueError(f"{folder} is not empty: choose another, or replace it with --force")
        if source.resolve().is_relative_to(folder.resolve()):
            raise ValueError(f"{folder} holds the model itself: choose another")
        shutil.rmtree(folder)
    folder.mkdir(parents=True, exist_ok=True)
    return folder
