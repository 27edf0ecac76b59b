"""Which program computes a task, or several at once: few programs cover every combination."""

from collections.abc import Mapping, Sequence

from jaxpool.heads.decoded import reads_memory
from jaxpool.heads.steps import Chains
from jaxpool.tasks.task import Task


class Programs:
    """The programs of a model's tasks, as the chains of steps of each.

    Each pooled task has a program of its own. One more program computes all tasks of the model:
    combinations of tasks use it and fetch only the outputs they want, since the heads cost little
    beside the forward. In a model with one pooled task it also computes the token vectors, because
    the additional pooling costs next to nothing. Quantized vectors and the vectors of late chunks
    come from it too; the host quantizes those of chunks, which are few. What a decoder makes of
    vectors beside its tokens has other inputs, and always a program of its own.

    comparing: the task that scores documents, by the task (or tuple of tasks) that computes the
    token vectors of queries; each has a program, whose outputs are small.
    """

    def __init__(self, tasks: Sequence[Task], comparing: Mapping | None = None):
        self.paths = paths = [path for task in tasks for path in task.paths]
        self.together = [path for path in paths if not reads_memory((path.steps,))]
        variants = [variant for path in self.together for variant in path.variants]
        everything = variants + _late(paths)
        self.everything = tuple(dict.fromkeys(task.program for task in everything))
        self.alone = {path.steps for path in paths if path.pooled or len(tasks) > 2}
        self.comparing = comparing or {}

    def of(self, task: Task | tuple[Task, ...]) -> Chains:
        """The program of a task, or of several; a task the model does not list has its own."""
        chains = chains_of(task)
        own = len(chains) == 1 and chains[0] in self.alone
        return chains if own or not set(chains) <= set(self.everything) else self.everything

    def serving(self, tasks: Sequence[Task | tuple[Task, ...]] | None = None) -> list[Chains]:
        """The programs that some tasks need on all their routes; None: all, in any combination."""
        wanted = [*self.paths, tuple(self.together), *self.comparing] if tasks is None else [*tasks]
        wanted += [self.comparing[task] for task in wanted if task in self.comparing]
        paths: list = [path for t in wanted for path in (t.paths if isinstance(t, Task) else (t,))]
        return list(dict.fromkeys(map(self.of, paths + _late(paths))))


def _late(paths: Sequence[Task | tuple[Task, ...]]) -> list[Task]:
    """The tasks of late chunks, for the tasks that give token vectors."""
    single = [path for path in paths if isinstance(path, Task)]
    return [path.chunked for path in single if path.name == "token_embed"]


def chains_of(task: Task | tuple[Task, ...]) -> Chains:
    """The chains of steps that serve a task, or several in one forward."""
    return tuple(t.program for t in (task if isinstance(task, tuple) else (task,)))
