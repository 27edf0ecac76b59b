"""Where a start keeps what later ones need."""

import pwd
from pathlib import Path

import pytest

from jaxpool.engine.folders import named_folder


@pytest.fixture
def settings(monkeypatch):
    """The environment without any of the names that matter."""
    for name in ("JAXPOOL_CACHE", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    return monkeypatch


def test_the_first_name_there_is(settings):
    settings.setenv("HOME", "/home/someone")
    assert named_folder() == Path("/home/someone/.cache/jaxpool/xla")
    settings.setenv("XDG_CACHE_HOME", "/cache")
    assert named_folder() == Path("/cache/jaxpool/xla")
    settings.setenv("JAXPOOL_CACHE", "/named")
    assert named_folder() == Path("/named")
    settings.setenv("JAXPOOL_CACHE", "")
    assert named_folder() is None


def test_a_user_without_home(settings):
    """docker run --user 12345: neither HOME nor an entry in /etc/passwd."""

    def unknown(uid):
        raise KeyError(uid)

    settings.setattr(pwd, "getpwuid", unknown)
    settings.delenv("HOME")
    assert named_folder() is None
    settings.setenv("XDG_CACHE_HOME", "/cache")
    assert named_folder() == Path("/cache/jaxpool/xla")
