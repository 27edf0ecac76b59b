"""Checkpoints of a run by Orbax: parameters, optimizer and step, whole or not at all."""

import json
import shutil
from pathlib import Path
from typing import Any

import jax

from jaxpool.train.step import State

FACTS = "run.json"


class Checkpoints:
    """The last `keep` states of a run in a folder; `facts` are what a run must have in common.

    A state is written beside the others and renamed when it is whole, so a killed process leaves
    the one before. The order of data and the keys of dropout follow from the step.
    """

    def __init__(self, folder: Path, keep: int, facts: dict[str, Any]):
        self.folder, self.keep, self.facts = folder.absolute(), keep, facts
        self._opened: Any = None

    @property
    def _manager(self):
        if self._opened is None:
            from orbax.checkpoint import CheckpointManager, CheckpointManagerOptions

            options = CheckpointManagerOptions(max_to_keep=self.keep, create=True)
            self._opened = CheckpointManager(self.folder, options=options)
        return self._opened

    def save(self, step: int, state: State) -> None:
        """Write a state, in the background."""
        from orbax.checkpoint.args import StandardSave

        self.folder.mkdir(parents=True, exist_ok=True)
        file = self.folder.parent / FACTS
        if not file.is_file():
            file.write_text(json.dumps(self.facts, indent=1), encoding="utf-8")
        if step not in self._manager.all_steps():
            self._manager.save(step, args=StandardSave(state._asdict()))

    def restore(self, state: State) -> State:
        """The last whole state, placed as `state` is; `state` itself where there is none."""
        from orbax.checkpoint.args import StandardRestore

        if not self.folder.is_dir():
            return state
        self._check()
        step = self._manager.latest_step()
        if step is None:
            return state
        return State(**self._manager.restore(step, args=StandardRestore(state._asdict())))

    def remove(self) -> None:
        """Remove what another run has left, for one that begins anew."""
        if jax.process_index() == 0:
            shutil.rmtree(self.folder, ignore_errors=True)
            (self.folder.parent / FACTS).unlink(missing_ok=True)

    def _check(self) -> None:
        file = self.folder.parent / FACTS
        found = json.loads(file.read_text(encoding="utf-8")) if file.is_file() else self.facts
        for name, wanted in json.loads(json.dumps(self.facts)).items():
            if found.get(name) != wanted:
                raise ValueError(
                    f"{self.folder} holds another run: {name} wanted {_short(wanted)}, "
                    f"found {_short(found.get(name))}; name another output"
                )

    def close(self) -> None:
        """Wait until all is written."""
        if self._opened is not None:
            self._opened.wait_until_finished()
            self._opened.close()
            self._opened = None


def _short(fact: Any) -> str:
    text = json.dumps(fact)
    return text if len(text) < 200 else f"{text[:200]}..."
