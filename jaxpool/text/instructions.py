"""The instruction before each text: one of the prompts that a model was trained with.

Clients name it by the checkpoint's own names (`prompt_name`), or say what a text is for
(`input_type`) in the words of Cohere, Voyage, NVIDIA NIM and sentence-transformers.
"""

import logging
from collections.abc import Iterable
from functools import cache

from jaxpool.errors import RequestError
from jaxpool.tasks.input_types import find, meaning
from jaxpool.tasks.task import VECTORS, Task

log = logging.getLogger("jaxpool")


def instruction(
    model, task: Task, prompt: str | None, name: str | None, input_type: str | None
) -> str:
    """The text before each prompt: `prompt`, or the one called `name`, or that of an input type.

    Without any of them it is the model's default, and if it has none, no text at all: where its
    files have prompts, the log says so once.
    """
    if prompt is not None:
        return prompt
    if name is None and input_type is not None:
        name = _of_type(model, task, input_type)
    elif name is None and task.name in (*VECTORS, "sparse"):
        name = model.default_prompt_name
        if name is None and any(model.prompts.values()):
            _mention(model.name, tuple(model.prompts))
    return "" if name is None else named(model, name)


def named(model, name: str) -> str:
    """The prompt of a name; the error of an unknown one lists those there are."""
    if name not in model.prompts:
        raise RequestError(
            f"unknown prompt_name {name!r}; this model's prompts: {sorted(model.prompts)}"
        )
    return model.prompts[name]


def _of_type(model, task: Task, input_type: str) -> str | None:
    """The name of the prompt for an input type; None where something else tells it apart."""
    if found := find(input_type, model.prompts):
        return found
    elsewhere = (*dict(task.routes), *model.adapters)
    if find(input_type, elsewhere):
        return None
    if meaning(input_type) == "document" and find("query", model.prompts):
        return None  # of such a model queries alone have an instruction
    raise unsupported(input_type, (*model.prompts, *elsewhere))


def unsupported(input_type: str, known: Iterable[str]) -> RequestError:
    """The error of an input type that a model does not have."""
    names = ", ".join(sorted(set(known)))
    reason = "This model does not define any input_type task instructions."
    reason = f"Supported values: {names}" if names else reason
    return RequestError(f"Unsupported input_type {input_type!r}. {reason}")


@cache
def _mention(model: str, names: tuple[str, ...]) -> None:
    log.warning(
        "%s was trained with prompts (%s), and texts are embedded without one: name it by "
        "prompt_name, input_type or default_prompt_name; `jaxpool info` shows them",
        model,
        ", ".join(names),
    )
