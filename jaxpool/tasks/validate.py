"""Checks of a call's parameters against the model. Messages are vLLM's."""

from jaxpool.errors import RequestError
from jaxpool.tasks.pooling_params import PoolingParams
from jaxpool.tasks.task import Task, canonical

VALID = {
    "embed": ["dimensions", "use_activation"],
    "classify": ["use_activation"],
    "token_embed": ["dimensions", "use_activation", "late_chunking_params"],
    "token_classify": ["use_activation"],
    "sparse": [],
    "decide": [],
}
CHECKED = ("dimensions", "use_activation", "late_chunking_params")
STEP_FIELDS = ("step_tag_id", "returned_token_ids")


def check_count(count: int, given) -> None:
    """Refuse parameters that are not one for all prompts, nor one for each."""
    if given is None or isinstance(given, PoolingParams):
        return
    if len(given) != count:
        raise ValueError(
            f"The lengths of prompts ({count}) and params ({len(given)}) must be the same."
        )


def resolve_params(model, task: Task, given, count: int) -> list[PoolingParams]:
    """Checked copies of a call's parameters, one a prompt, with the model's defaults filled in."""
    if given is None or isinstance(given, PoolingParams):
        return [_resolve(model, task, given or PoolingParams())] * count
    check_count(count, given)
    return [_resolve(model, task, params) for params in given]


def _resolve(model, task: Task, params: PoolingParams) -> PoolingParams:
    params, config = params.copy(), model.pooler_config
    if params.task in model.adapters:
        params.adapter = model.adapters.index(params.task) + 1
        params.task = task.name
    if params.task is None:
        params.task = task.name
    elif model.adapters and canonical(params.task, model.tasks) not in model.tasks:
        raise RequestError(f"unknown task {params.task!r}; known: {model.adapters}", "task")
    elif model.task(params.task).name != task.name:
        raise ValueError(
            f"You cannot overwrite param.task={params.task!r} with pooling_task={task.name!r}!"
        )
    valid = VALID[task.name]
    if bad := [n for n in CHECKED if n not in valid and getattr(params, n) is not None]:
        raise RequestError(
            f"Task {task.name!r} only supports {valid} parameters, "
            f"does not support {bad} parameters"
        )
    if params.use_activation is None:
        params.use_activation = task.activate
    if task.precision.endswith("int8") and not params.use_activation:
        raise RequestError(
            f"precision {task.precision!r} is of normalized vectors, and use_activation is off"
        )
    if params.dimensions is None and "dimensions" in valid:
        params.dimensions = config.dimensions
    if params.dimensions is not None:
        model.model_config.check_dimensions(params.dimensions)
    _resolve_step(model, task, params, valid)
    return params


def _resolve_step(model, task: Task, params: PoolingParams, valid: list[str]) -> None:
    config = model.pooler_config
    step = config.tok_pooling_type == "STEP"
    bad = [name for name in STEP_FIELDS if getattr(params, name) is not None]
    if bad and not step:
        raise RequestError(
            f"Task {task.name!r} only supports {valid} parameters, "
            f"does not support {bad} parameters"
        )
    if not step or task.pooled:
        params.step_tag_id = params.returned_token_ids = None
        return
    for name in STEP_FIELDS:
        if getattr(params, name) is None:
            setattr(params, name, getattr(config, name))
    check_step(params, model.arch.vocab, task.width(model.arch.dim))


def check_step(settings, vocab: int, classes: int) -> None:
    """Refuse STEP pooling (of a request or a `PoolerConfig`) by tags or classes that are not."""
    tag = settings.step_tag_id
    if tag is not None and not 0 <= tag < vocab:
        raise RequestError(f"step_tag_id {tag} is out of vocabulary", "step_tag_id", tag)
    for column in settings.returned_token_ids or ():
        if not 0 <= column < classes:
            raise RequestError(
                f"returned_token_ids must be in [0, {classes - 1}], got {column}",
                "returned_token_ids",
                column,
            )
