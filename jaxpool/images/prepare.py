"""From prompts of pictures to what the engine computes on: each becomes patches."""

import os
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np

from jaxpool.errors import RequestError
from jaxpool.images.patches import Picture
from jaxpool.images.processor import Processor
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
    reads = [partial(_patches, model, prompt, _only(model, prompt)) for prompt in prompts]
    tokens = [Tokens(np.array([PLACE], np.int32))] * len(prompts)
    made = requests(model, tasks, tokens, list(zip(*settings, strict=True)))
    patches = _each(reads)
    return [replace(one, picture=picture) for one, picture in zip(made, patches, strict=True)]


def _only(model, prompt: Pictures) -> Any:
    """The picture of a prompt that has one, and nothing else."""
    model.media.check_count(len(prompt.images), 1)
    if len(prompt.text):
        name = model.checkpoint.architecture.removesuffix("Model")
        raise RequestError(
            f"{name} accepts text-only or image-only inputs, not both! You must pass an image "
            "with an empty token prompt."
        )
    return prompt.images[0]


def _patches(model, prompt: Pictures, source: Any) -> Picture:
    """The patches of a prompt's picture."""
    return _processor(model, prompt.processing)(model.media.opened(source))


def _processor(model, asked: Mapping[str, Any] | None) -> Processor:
    """The processor for a prompt's `mm_processor_kwargs`; RequestError for longer pictures."""
    if not asked:
        return model.processor
    known = model.media.mm_processor_kwargs or {}
    found = model.checkpoint.processor_for({**known, **asked})
    if found.most > model.processor.most:
        raise RequestError(
            f"mm_processor_kwargs: pictures of {found.most} patches, but the model was loaded for "
            f"{model.processor.most}: give them at load"
        )
    return found


def _each(reads: Sequence[Callable[[], Picture]]) -> list[Picture]:
    """The results of some calls, several at a time: Pillow works outside Python's lock."""
    if len(reads) == 1:
        return [reads[0]()]
    with ThreadPoolExecutor(min(len(reads), os.cpu_count() or 1)) as pool:
        return list(pool.map(lambda read: read(), reads))
