"""`prepare` for prompts with pictures: these become patches, texts go on to `jaxpool.text`."""

import os
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import numpy as np

from jaxpool.errors import RequestError
from jaxpool.tasks.pooling_params import PoolingParams
from jaxpool.tasks.task import Task
from jaxpool.tasks.validate import resolve_params
from jaxpool.text import prepare as texts
from jaxpool.text.prepared import Prepared
from jaxpool.text.prompts import Pictures, as_prompts
from jaxpool.text.tokenizer import Tokens

PLACE = 0  # the one token that a picture counts as, in a model that reads it by itself


def prepare(
    model,
    task: Task | tuple[Task, ...],
    prompts: Any,
    params: PoolingParams | Sequence[PoolingParams] | None = None,
    tokenization_kwargs: Mapping[str, Any] | None = None,
    **options: Any,
) -> list[Prepared]:
    """One request a prompt, as `jaxpool.text.prepare.prepare` makes them of texts.

    Instructions are for texts alone. RequestError where the model takes no pictures, or not these.
    """
    prompts = as_prompts(prompts)
    seen = [i for i, prompt in enumerate(prompts) if isinstance(prompt, Pictures)]
    if not seen:
        return texts.prepare(model, task, prompts, params, tokenization_kwargs, **options)
    read = [i for i, prompt in enumerate(prompts) if not isinstance(prompt, Pictures)]
    found = _pictures(model, task, [prompts[i] for i in seen], _of(params, seen))
    if read:
        given, settings = [prompts[i] for i in read], _of(params, read)
        found += texts.prepare(model, task, given, settings, tokenization_kwargs, **options)
    order = np.argsort(seen + read)
    return [found[i] for i in order]


def _of(params, indices: list[int]):
    """The parameters of some prompts: those of all, or of each."""
    each = params is not None and not isinstance(params, PoolingParams)
    return [params[i] for i in indices] if each else params


def _pictures(model, task, prompts: list[Pictures], params) -> list[Prepared]:
    """The requests of pictures by themselves."""
    if model.processor is None:
        raise RequestError("multi_modal_data: this is not a multimodal model")
    tasks = [one.of_pictures for one in (task if isinstance(task, tuple) else (task,))]
    settings = [resolve_params(model, one, params, len(prompts)) for one in tasks]
    sources = [_only(prompt, model.checkpoint.architecture) for prompt in prompts]
    tokens = Tokens(np.array([PLACE], np.int32))
    made = [texts.request(model, tasks, tokens, own) for own in zip(*settings, strict=True)]
    pictures = _patches(model.processor, sources)
    return [replace(one, picture=picture) for one, picture in zip(made, pictures, strict=True)]


def _only(prompt: Pictures, name: str) -> Any:
    """The picture of a prompt that has one, and nothing else."""
    if len(prompt.images) > 1:
        raise RequestError("At most 1 image(s) may be provided in one prompt.")
    if len(prompt.text):
        raise RequestError(
            f"{name} accepts text-only or image-only inputs, not both! You must pass an image "
            "with an empty token prompt."
        )
    return prompt.images[0]


def _patches(processor: Callable, sources: list) -> list:
    """The patches of pictures, several at a time: Pillow works outside Python's lock."""
    with ThreadPoolExecutor(min(len(sources), os.cpu_count() or 1)) as pool:
        return list(pool.map(processor, sources))
