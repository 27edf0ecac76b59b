"""Hostile checkpoints in a jail: nothing runs, is read or is written beside what a case allows."""

import hashlib
import shutil
from pathlib import Path

import pytest
from security import tiny
from security.jail import Jail

SECRET = "the password is swordfish"


@pytest.fixture(scope="session")
def jail():
    """The process that cases share."""
    made = Jail()
    yield made
    made.stop()


@pytest.fixture(scope="session")
def good(tmp_path_factory):
    """A checkpoint that works."""
    return tiny.save(tmp_path_factory.mktemp("tiny") / "model")


class Case:
    """A hostile checkpoint `model` in a room with a secret; `out` is all that may be written."""

    def __init__(self, room: Path, good: Path, jail: Jail):
        self.room, self.jail = room, jail
        self.model, self.out, self.secret = room / "model", room / "out", room / "secret.txt"
        self.canary = room / "canary"  # what evil code would create
        shutil.copytree(good, self.model)
        self.secret.write_text(SECRET)

    def run(self, *arguments):
        """A command; fails where the room is not as it was, or what is in `out` has the secret."""
        before = self._contents()
        outcome = self.jail.run(*arguments)
        assert self._contents() == before, f"the room has changed: {outcome}"
        assert SECRET not in outcome.out + outcome.err
        for file in self.out.rglob("*"):
            assert not file.is_file() or SECRET.encode() not in file.read_bytes(), file
        return outcome

    def refused(self, command: str = "embed", says: str = "") -> str:
        """The one line with which a command refuses the checkpoint."""
        outcome = self.run(*self.arguments(command))
        assert outcome.refused, outcome
        assert says in outcome.err, outcome.err
        return outcome.err

    def harmless(self, command: str = "embed"):
        """The checkpoint is refused in one line, or works."""
        outcome = self.run(*self.arguments(command))
        assert outcome.refused or outcome.code == 0, outcome
        return outcome

    def arguments(self, command: str) -> tuple:
        """What makes a command one about the model."""
        last = {"embed": ["hello world"], "info": []}.get(command, [self.out])
        return command, self.model, *last

    def _contents(self) -> dict:
        found = {}
        for path in sorted(self.room.rglob("*")):
            if path.is_relative_to(self.out) or not path.is_file():
                continue
            found[path] = hashlib.sha256(path.read_bytes()).hexdigest()
        return found


@pytest.fixture
def case(tmp_path, good, jail):
    """A checkpoint to spoil and try."""
    return Case(tmp_path, good, jail)
