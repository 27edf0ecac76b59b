"""Which program serves a task or several at once: few programs for every combination."""

from collections.abc import Mapping, Sequence

from jaxpool.engine.executor import Chains
from jaxpool.tasks.task import Task


class Programs:
    """The programs of a model's tasks, as the chains of steps of each.

    A pooled task has a program of its own. One more does everything that the model can do:
    combinations pick what they ask for, the rest is not fetched, and heads cost little beside the
    forward. In a model of one pooled task it serves the token vectors as well, since pooling them
    too costs next to nothing; any two tasks then take no program beyond the two. Quantized vectors
    come from it too, and those of late chunks, which are few: the host quantizes them.

    comparing: what scores documents, by the task (or several) that makes the token vectors of
    queries; a program each, whose outputs are small.
    """

    def __init__(self, tasks: Sequence[Task], comparing: Mapping | None = None):
        self.paths = paths = [path for task in tasks for path in task.paths]
        everything = [variant for path in paths for variant in path.variants] + _late(paths)
        self.everything = tuple(dict.fromkeys(task.program for task in everything))
        self.alone = {path.steps for path in paths if path.pooled or len(tasks) > 2}
        self.comparing = comparing or {}

    def of(self, task: Task | tuple[Task, ...]) -> Chains:
        """The program of a task, or of several; of a task that is not the model's, its own."""
        chains = chains_of(task)
        own = len(chains) == 1 and chains[0] in self.alone
        return chains if own or not set(chains) <= set(self.everything) else self.everything

    def serving(self, tasks: Sequence[Task | tuple[Task, ...]] | None = None) -> list[Chains]:
        """The programs that some tasks need on all their paths; None: all, in any combination."""
        wanted = [*self.paths, tuple(self.paths), *self.comparing] if tasks is None else [*tasks]
        wanted += [self.comparing[task] for task in wanted if task in self.comparing]
        paths: list = [path for t in wanted for path in (t.paths if isinstance(t, Task) else (t,))]
        return list(dict.fromkeys(map(self.of, paths + _late(paths))))


def _late(paths: Sequence[Task | tuple[Task, ...]]) -> list[Task]:
    """The vectors of late chunks, of those that give token vectors."""
    single = [path for path in paths if isinstance(path, Task)]
    return [path.chunked for path in single if path.name == "token_embed"]


def chains_of(task: Task | tuple[Task, ...]) -> Chains:
    """The chains of steps that serve a task, or several in one forward."""
    return tuple(t.program for t in (task if isinstance(task, tuple) else (task,)))
