"""A task: the steps after the forward that serve embed, classify, ...; and its choice by name."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from jaxpool.errors import RequestError
from jaxpool.heads.precision import PRECISIONS, SHIFTED, Quantize
from jaxpool.heads.similarity import MaxSim
from jaxpool.heads.steps import Pool, PoolChunks, is_pooled, width
from jaxpool.tasks.input_types import find
from jaxpool.tasks.token_rows import Inner, Labelled, Spanned, Words

VECTORS = ("embed", "token_embed")  # the tasks whose results may be quantized
PRIORITY = ("embed", "classify", "token_embed", "token_classify", "sparse", "decide")
REQUIRED = """pooling_task required for `LLM.encode`. Use a more specific method, or set it:
  - embeddings: `LLM.embed(...)` or `pooling_task="embed"`
  - classification: `LLM.classify(...)` or `pooling_task="classify"`
  - similarity scores: `LLM.score(...)`
  - rewards: `LLM.reward(...)`, `pooling_task="classify"` or `pooling_task="token_classify"`
  - token classification: `pooling_task="token_classify"`
  - multi-vector retrieval: `pooling_task="token_embed"`"""


@dataclass(frozen=True)
class Task:
    """One thing a model can do: the steps after the forward, and whether they activate.

    routes: the steps of each `input_type` of a sentence-transformers Router, where there is one;
    `steps` is then its default route, empty if it has none; rows: which token rows count, all if
    None; precision: what the vectors are quantized to (see `jaxpool.heads.precision`); pictures:
    the steps for pictures, after the vision tower or after the texts around them, where the task
    takes some; unread: the token that does not count at the end of a text, where the last is read.
    """

    name: str
    steps: tuple
    activate: bool = True
    routes: tuple[tuple[str, tuple], ...] = ()
    rows: Inner | Words | Labelled | Spanned | None = None
    precision: str = "float32"
    pictures: tuple = ()
    unread: int | None = None

    @property
    def program(self) -> tuple:
        """The steps as they are compiled, the quantization of vectors last."""
        if self.precision == "float32" or not self.steps:
            return self.steps
        return (*self.steps, Quantize(SHIFTED.get(self.precision, self.precision)))

    @property
    def pooled(self) -> bool:
        """One result a text, rather than one a token."""
        return is_pooled(self.chain)

    @property
    def paths(self) -> tuple["Task", ...]:
        """The task once for each of its routes, the default route first."""
        ways = dict.fromkeys((self.steps, *(steps for _, steps in self.routes)))
        return tuple(replace(self, steps=steps) for steps in ways if steps)

    @property
    def chain(self) -> tuple:
        """The steps, or those of the first route where a call has to name one."""
        return self.steps or next((steps for _, steps in self.routes), ())

    def width(self, dim: int) -> int:
        """Features of a result, for hidden states of `dim`."""
        return width(self.chain, dim)

    def route(self, input_type: str | None) -> "Task":
        """The same task on the route of an input type; a model without routes has just one."""
        routes = dict(self.routes)
        if not routes or (input_type is None and self.steps):
            return self
        found = find(input_type, routes)
        if found is None:
            raise RequestError(f"input_type must be one of {sorted(routes)}, got {input_type!r}")
        return replace(self, steps=routes[found])

    @property
    def of_pictures(self) -> "Task":
        """The same task for pictures by themselves; RequestError where it takes none."""
        if not self.pictures:
            raise RequestError(f"{self.name} is of texts, and takes no images")
        return replace(self, steps=self.pictures, pictures=(), routes=())

    @property
    def compared(self) -> "Task":
        """The task whose token vectors are compared, by MaxSim, with the query of each request."""
        pictures = (*self.pictures, MaxSim()) if self.pictures else ()
        name, steps = f"{self.name}_maxsim", (*self.steps, MaxSim())
        return Task(name, steps, self.activate, pictures=pictures)

    @property
    def chunked(self) -> "Task":
        """The task whose results are the means of a text's chunks, in float32 (late chunking)."""
        return replace(self, steps=(PoolChunks(), *self.steps), precision="float32")

    def at(self, precision: str) -> "Task":
        """The same task with its vectors in another precision."""
        if precision == self.precision:
            return self
        if precision not in PRECISIONS:
            raise RequestError(f"precision must be one of {PRECISIONS}, got {precision!r}")
        if precision != "float32" and self.name not in VECTORS:
            raise RequestError(f"precision {precision!r} is for {VECTORS}, not for {self.name!r}")
        return replace(self, precision=precision)

    @property
    def variants(self) -> "tuple[Task, ...]":
        """The same task in every precision that it has."""
        return tuple(map(self.at, PRECISIONS)) if self.name in VECTORS else (self,)

    def tokenwise(self, name: str) -> "Task":
        """The same task on every token: its steps without the pooling."""

        def unpooled(steps):
            return tuple(step for step in steps if not isinstance(step, Pool))

        routes = tuple((kind, unpooled(steps)) for kind, steps in self.routes)
        return Task(name, unpooled(self.steps), self.activate, routes)


def of_pictures(task: Task | tuple[Task, ...]) -> Task | tuple[Task, ...]:
    """A task, or several at once, for pictures by themselves."""
    return tuple(t.of_pictures for t in task) if isinstance(task, tuple) else task.of_pictures


def taking_pictures(tasks: Sequence[Task | tuple[Task, ...]] | None) -> list | None:
    """Of some tasks, or tuples of them at once, those that take pictures; None (all) stays."""
    if tasks is None:
        return None
    groups = [task if isinstance(task, tuple) else (task,) for task in tasks]
    taken = [group for group in groups if all(task.pictures for task in group)]
    return [of_pictures(group if len(group) > 1 else group[0]) for group in taken]


def canonical(name: str, tasks: Mapping[str, Task]) -> str:
    """The present name of a task that older versions of vLLM call `score`, `encode` or `reward`."""
    if name in tasks:
        return name
    older = {
        "score": ("classify",),
        "encode": ("token_embed", "token_classify"),
        "reward": ("classify", "token_classify"),
    }
    return next((new for new in older.get(name, ()) if new in tasks), name)


def several(name: str | Sequence[str]) -> list[str]:
    """The names in "embed&sparse" or in a sequence, each once."""
    return list(dict.fromkeys(name.split("&") if isinstance(name, str) else name))


def choose(tasks: Mapping[str, Task], name: str, only: str | None = None) -> Task:
    """The task called `name`; `only` is the one a PoolerConfig allows, if it names one."""
    name = canonical(name, tasks)
    if name not in tasks:
        raise ValueError(_impossible(name, tuple(tasks)))
    if only is not None and name != only:
        raise ValueError(
            f'Try switching the model\'s pooling_task via `PoolerConfig(task="{name}")`'
        )
    return tasks[name]


def _impossible(name: str, supported: tuple[str, ...]) -> str:
    for api, kind in (("Embedding", "embed"), ("Classification", "classify")):
        if name in (kind, f"token_{kind}"):
            return (
                f"{api} API is not supported by this model. Try converting the model using "
                f"`--convert {kind}`."
            )
    if name == "plugin":
        return "No IOProcessor plugin installed."
    return f"Unsupported task: {name!r} Supported tasks: {supported}"


def default(tasks: Mapping[str, Task], architecture: str, asked: str | None) -> str:
    """The task a model serves unless a call says otherwise."""
    if asked is not None:
        name = canonical(asked, tasks)
        if name not in tasks:
            raise RuntimeError(f"Unsupported task: {asked!r} Supported tasks: {tuple(tasks)}")
        return name
    if "ForTokenClassification" in architecture and "token_classify" in tasks:
        return "token_classify"
    return next(name for name in PRIORITY if name in tasks)
