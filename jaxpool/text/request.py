"""The requests of some tokens, under the resolved parameters of their tasks."""

from collections.abc import Sequence
from dataclasses import replace
from itertools import groupby
from operator import itemgetter
from typing import Any

import numpy as np

from jaxpool.engine.batch import NO_CUT
from jaxpool.errors import RequestError
from jaxpool.heads.steps import Activate
from jaxpool.tasks.pooling_params import LateChunkingParams, PoolingParams
from jaxpool.tasks.task import Task
from jaxpool.text.late_chunking import chunks
from jaxpool.text.prepared import Epilogue, Prepared
from jaxpool.text.tokenizer import Tokens

NO_TOKENS = np.zeros(0, np.int32)


def requests(
    model,
    tasks: Sequence[Task],
    tokens: Sequence[Tokens],
    settings: Sequence[tuple[PoolingParams, ...]],
    skips: Sequence[int] | None = None,
) -> list[Prepared]:
    """The requests of some tokens for tasks, under the resolved parameters of each task.

    skips: leading tokens of each that pooling leaves out.
    """
    made: list[Prepared] = []
    each = zip(settings, tokens, skips or [0] * len(tokens), strict=True)
    for params, alike in groupby(each, itemgetter(0)):
        template = Template(model, tasks, params)
        made += [template.of(one, skip) for _, one, skip in alike]
    return made


class Template:
    """What the requests of the same tasks and parameters have in common."""

    def __init__(self, model, tasks: Sequence[Task], params: Sequence[PoolingParams]):
        self.model, self.tasks, self.params = model, tasks, params
        self.empty = _empty(tasks, params)
        self.special, self.unread = _reads_tokens(tasks, params), tasks[0].unread

    def of(self, tokens: Tokens, skip: int = 0) -> Prepared:
        """The request of some tokens, of which pooling leaves out the first `skip`."""
        if self.unread is not None:
            tokens = tokens.without_end(self.unread)
        # Something is left to pool.
        request = self.empty.of(tokens, min(skip, max(len(tokens.ids) - 1, 0)))
        if not self.special:
            return request
        return _completed(self.model, self.tasks, request, tokens, self.params)


def _empty(tasks: Sequence[Task], params: Sequence[PoolingParams]) -> Prepared:
    """The request of no tokens."""
    epilogues = tuple(map(_epilogue, tasks, params))
    return Prepared(NO_TOKENS, **_controls(params), adapter=params[0].adapter, epilogues=epilogues)


def _reads_tokens(tasks: Sequence[Task], params: Sequence[PoolingParams]) -> bool:
    """Whether the results of a request depend on its tokens beyond their vectors."""
    return (
        params[0].late_chunking_params is not None
        or any(task.rows is not None for task in tasks)
        or any(one.step_tag_id is not None for one in params)
    )


def _completed(
    model, tasks: Sequence[Task], request: Prepared, tokens: Tokens, params: Sequence[PoolingParams]
) -> Prepared:
    """A request with the token rows that are returned, or the late chunks of its text."""
    late = params[0].late_chunking_params
    if isinstance(late, LateChunkingParams):
        return replace(request, chunks=chunks(tokens, late))
    epilogues = []
    for task, one, epilogue in zip(tasks, params, request.epilogues, strict=True):
        tag, ids = one.step_tag_id, request.ids
        keep = None if tag is None else np.flatnonzero(ids == tag)
        keep = keep if task.rows is None else task.rows.keep(ids, model.tokenizer)
        epilogues.append(replace(epilogue, keep=keep, rows=task.rows))
    return replace(request, epilogues=tuple(epilogues))


def _controls(params: Sequence[PoolingParams]) -> dict[str, Any]:
    """The controls of a request, which its tasks must agree on: the device has one set."""
    asked = [
        {
            "dimensions": NO_CUT if one.dimensions is None else one.dimensions,
            "activate": bool(one.use_activation),
        }
        for one in params
    ]
    for name, value in asked[0].items():
        if any(other[name] != value for other in asked):
            raise RequestError(f"these tasks differ in {name}: ask for each by itself")
    return asked[0]


def _epilogue(task: Task, params: PoolingParams) -> Epilogue:
    if params.late_chunking_params is not None:  # a vector a chunk: no token rows
        return Epilogue(precision=task.precision)
    columns = params.returned_token_ids
    return Epilogue(
        columns=tuple(columns) if columns else None,
        shares=bool(params.use_activation) and task.steps[-1] == Activate("softmax"),
        precision=task.precision,
    )
