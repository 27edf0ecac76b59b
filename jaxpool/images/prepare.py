"""From prompts of pictures to what the engine computes on: each becomes patches."""

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import numpy as np

from jaxpool.errors import RequestError
from jaxpool.tasks.validate import resolve_params
from jaxpool.text.prepared import Prepared
from jaxpool.text.prompts import Pictures
from jaxpool.text.request import requests
from jaxpool.text.tokenizer import Tokens

PLACE = 0  # the one token that a picture counts as, in a model that reads it by itself


def pictures(model, task, prompts: list[Pictures], params) -> list[Prepared]:
    """The requests of pictures by themselves."""
    if model.processor is None:
        raise RequestError("multi_modal_data: this is not a multimodal model")
    tasks = [one.of_pictures for one in (task if isinstance(task, tuple) else (task,))]
    settings = [resolve_params(model, one, params, len(prompts)) for one in tasks]
    sources = [_only(prompt, model.checkpoint.architecture) for prompt in prompts]
    tokens = [Tokens(np.array([PLACE], np.int32))] * len(prompts)
    made = requests(model, tasks, tokens, list(zip(*settings, strict=True)))
    patches = _patches(model.processor, sources)
    return [replace(one, picture=picture) for one, picture in zip(made, patches, strict=True)]


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
