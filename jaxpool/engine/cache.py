"""Where JAX keeps compiled programs between starts: a folder of the user's, or a bucket."""

import logging
import os
from functools import cache

import jax

from jaxpool.engine.folders import cache_folder
from jaxpool.engine.remote import is_remote, place

log = logging.getLogger("jaxpool")

SCHEMES = ("gs://", "s3://", "az://")  # JAX would take any other URL for a folder here


def enable_cache() -> None:
    """Turn on JAX's persistent compilation cache, unless the user has set one."""
    if jax.config.values["jax_compilation_cache_dir"] is not None:
        return
    named = os.environ.get("JAXPOOL_CACHE", "")
    kept = (named if _answers(named) else None) if is_remote(named) else cache_folder()
    if kept:
        jax.config.update("jax_compilation_cache_dir", str(kept))
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
        jax.config.update("jax_persistent_cache_min_entry_size_bytes", 0)


@cache
def _answers(url: str) -> bool:
    """Whether a place can be listed; where not, one warning instead of one for each program."""
    try:
        _list(url)
    except FileNotFoundError:
        reason = "no such bucket"
    except Exception as error:  # each client of a store has errors of its own
        reason = " ".join(str(error).split()) or type(error).__name__
    else:
        return True
    log.warning("no cache of compiled programs at %s: %s", url, reason)
    return False


def _list(url: str) -> None:
    if not url.startswith(SCHEMES):
        raise ValueError(f"it is not one of {', '.join(SCHEMES)}")
    fs, root = place(url)
    try:
        fs.ls(root)
    except FileNotFoundError:  # nothing is in it yet
        fs.ls(root.partition("/")[0])
