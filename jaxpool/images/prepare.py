"""From prompts with pictures to what the engine computes on: pictures become patches."""

import hashlib
import os
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np

from jaxpool.errors import RequestError
from jaxpool.images.conversation import Conversation
from jaxpool.images.patches import Picture
from jaxpool.images.places import Place, coordinates
from jaxpool.images.processor import Processor
from jaxpool.images.tiles import Tiled
from jaxpool.images.words import Words, encode, fitted, in_words
from jaxpool.tasks.input_types import meaning
from jaxpool.tasks.task import VECTORS, Task
from jaxpool.tasks.validate import resolve_params
from jaxpool.text.instructions import instruction
from jaxpool.text.late_interaction import SIDES
from jaxpool.text.limits import check_tokens, limit_of
from jaxpool.text.options import Tokenization
from jaxpool.text.prepared import Prepared
from jaxpool.text.prompts import Pictures, Prompt
from jaxpool.text.request import requests
from jaxpool.text.tokenizer import Tokens

PLACE = 0  # the one token that a picture counts as, in a model that reads it by itself


def joins(
    model, task: Task | tuple[Task, ...], prompt: Prompt, input_type: str | None = None
) -> bool:
    """Whether a prompt has images, or is a text that belongs into a model's words."""
    if model.conversation is None or isinstance(prompt, Pictures):
        return isinstance(prompt, Pictures)
    words = model.conversation.of(input_type)
    if isinstance(prompt, list):
        return bool(words.placeholder) and model.tokenizer.id(words.placeholder) in prompt
    if words.placeholder and words.placeholder in prompt:
        return True
    known = words.plain or words.is_written(prompt)
    return _asks(task) and (_told_apart(words, input_type) or not known)


def _told_apart(words: Conversation, input_type: str | None) -> bool:
    """Whether an input type needs no prompt of its name: the words say it."""
    return bool(words.sides) and meaning(input_type or "") in SIDES


def _asks(task: Task | tuple[Task, ...]) -> bool:
    """Whether prompts are put into words: those of vectors are, answers have words of their own."""
    return all(
        one.name in (*VECTORS, "sparse") for one in (task if isinstance(task, tuple) else (task,))
    )


def joined(
    model,
    task: Task | tuple[Task, ...],
    prompts: Sequence[Prompt],
    params: Any = None,
    tokenization_kwargs: Mapping[str, Any] | None = None,
    *,
    prompt: str | None = None,
    prompt_name: str | None = None,
    input_type: str | None = None,
    offsets: bool = False,
) -> list[Prepared]:
    """One request a prompt; an instruction stands where the model's conversation has it."""
    tasks = task if isinstance(task, tuple) else (task,)
    settings = [resolve_params(model, one, params, len(prompts)) for one in tasks]
    if offsets or any(one.late_chunking_params is not None for one in settings[0]):
        raise RequestError("late chunking and characters of tokens are for plain texts alone")
    options = Tokenization.of(tokenization_kwargs, limit_of(model, tasks), model.max_length)
    conversation = model.conversation.of(input_type)
    known = input_type in SIDES or _told_apart(conversation, input_type)
    worded = meaning(input_type or "") in conversation.sides and not conversation.told
    asked = None if worded or (known and input_type not in model.prompts) else input_type
    told = instruction(model, tasks[0], prompt, prompt_name, asked)
    words = [in_words(conversation, one, told, _asks(task)) for one in prompts]
    return requests_of(model, words, options, tasks, list(zip(*settings, strict=True)))


def requests_of(
    model, words: Sequence[Words], options: Tokenization, tasks: Sequence[Task], settings: list
) -> list[Prepared]:
    """The requests of prompts in words, with their images; texts are cut where that is asked."""
    for one in words:
        model.media.check_count(len(one.images), model.conversation.most)
    reads = [partial(_patches, model, one, image) for one in words for image in one.images]
    pictures = iter(_each(reads) if reads else ())
    encoded = encode(model, words, options)
    seen = [[next(pictures) for _ in one.images] for one in words]
    places = []
    for one, ids, own in zip(words, encoded, seen, strict=True):
        places.append(fitted(model, one, ids, own, options))
        check_tokens(model, places[-1][0].ids, options.limit, exact=True)
    tokens = [Tokens(place.ids, cut=cut) for place, cut in places]
    made = requests(model, tasks, tokens, settings)
    each = zip(made, places, seen, strict=True)
    turned = model.arch.axes > 1 and not model.conversation.counted
    found = [_seeing(one, turned, place, own) for one, (place, _), own in each]
    longest = max((one.length for one in found if one.length > len(one.ids)), default=0)
    if longest > model.max_length:
        raise RequestError(
            f"the images of a prompt have {longest} vectors before those of their padding are left "
            f"out; this model can take {model.max_length}"
        )
    return found


def _seeing(prepared: Prepared, turned: bool, place: Place, pictures: list) -> Prepared:
    if not pictures:
        return prepared
    where = coordinates(place, pictures) if turned else None
    seen = tuple(one for p in pictures for one in (p.pictures if isinstance(p, Tiled) else (p,)))
    return replace(prepared, pictures=seen, soft=place.soft, coordinates=where)


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


def _patches(model, prompt: Pictures | Words, source: Any) -> Picture | Tiled:
    """The patches of a prompt's picture, which are kept if they are those of a file's bytes."""
    processor, opened = _processor(model, prompt.processing), model.media.opened(source)
    cache = model.media.cache
    if not cache.most or not isinstance(opened, bytes):
        return processor(opened)
    key = processor, hashlib.blake2b(opened, digest_size=16).digest()
    found = cache.get(key)
    if found is None:
        found = processor(opened)
        cache.put(key, found, found.nbytes)
    return found


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


def _each(reads: Sequence[Callable[[], Picture | Tiled]]) -> list:
    """The results of some calls, several at a time: Pillow works outside Python's lock."""
    if len(reads) == 1:
        return [reads[0]()]
    with ThreadPoolExecutor(min(len(reads), os.cpu_count() or 1)) as pool:
        return list(pool.map(lambda read: read(), reads))
