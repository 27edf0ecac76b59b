"""Folders of compiled programs: machine code, so only their owner may write there."""

import logging
import os
from functools import cache
from pathlib import Path

log = logging.getLogger("jaxpool")

OTHERS = 0o022  # the group's and everybody's right to write


def make_private(folder: Path) -> None:
    """Make a folder that is its owner's alone; one that is there becomes so."""
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    folder.chmod(0o700)


def writers(path: Path) -> str | None:
    """Who else can write a file or folder, so that what is in it may be anything; None: nobody.

    What belongs to root is trusted as the system is.
    """
    if not hasattr(os, "getuid"):  # Windows has other rights
        return None
    found = path.stat()
    if found.st_uid not in (os.getuid(), 0):
        return f"user {found.st_uid}, whose it is"
    return "its group or everybody" if found.st_mode & OTHERS else None


def named_folder() -> Path | None:
    """Where a start leaves what later ones need: `JAXPOOL_CACHE`, by default in ~/.cache/jaxpool.

    None, and nothing is kept, where it is set to an empty string, or neither it nor the system
    names a folder (a user without HOME or an entry in /etc/passwd, as in some containers). A URL
    (gs://...) is for compiled programs alone: the rest is kept in the default folder.
    """
    named = os.environ.get("JAXPOOL_CACHE")
    if named is not None and "://" not in named:
        return Path(named) if named else None
    try:
        base = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    except RuntimeError:  # there is no home
        return None
    return base / "jaxpool" / "xla"


def cache_folder() -> Path | None:
    """The folder so named; None, with a warning, where others can write there."""
    folder = named_folder()
    return folder if folder and _is_private(folder) else None


@cache
def _is_private(folder: Path) -> bool:
    """Whether only the user can write in a folder, which is made where it is not there."""
    try:
        if not folder.is_dir():
            make_private(folder)
        who = writers(folder)
    except OSError as error:
        log.warning("no cache of compiled programs: %s", error)
        return False
    if who:
        log.warning("no cache of compiled programs: %s can be written by %s", folder, who)
    return not who
