"""The request of some tokens, under the resolved parameters of its tasks."""

from collections.abc import Sequence
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


def request(
    model, tasks: Sequence[Task], tokens: Tokens, params: Sequence[PoolingParams], skip: int = 0
) -> Prepared:
    """The request of some tokens for tasks, under the resolved parameters of each."""
    controls = _controls(params)
    if (unread := tasks[0].unread) is not None:
        tokens = tokens.without_end(unread)
    late = params[0].late_chunking_params
    return Prepared(
        tokens.ids,
        tokens.types,
        **controls,
        skip=min(skip, max(len(tokens.ids) - 1, 0)),  # something is left to pool
        adapter=params[0].adapter,
        epilogues=tuple(
            _epilogue(model, *each, tokens.ids) for each in zip(tasks, params, strict=True)
        ),
        offsets=tokens.offsets,
        cut=tokens.cut,
        chunks=chunks(tokens, late) if isinstance(late, LateChunkingParams) else None,
    )


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


def _epilogue(model, task: Task, params: PoolingParams, ids: np.ndarray) -> Epilogue:
    if params.late_chunking_params is not None:  # a vector a chunk: no token rows
        return Epilogue(precision=task.precision)
    tag, columns = params.step_tag_id, params.returned_token_ids
    keep = None if tag is None else np.flatnonzero(ids == tag)
    return Epilogue(
        keep if task.rows is None else task.rows.keep(ids, model.tokenizer),
        task.rows,
        tuple(columns) if columns else None,
        shares=bool(params.use_activation) and task.steps[-1] == Activate("softmax"),
        precision=task.precision,
    )
