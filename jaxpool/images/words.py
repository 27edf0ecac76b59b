"""Prompts with images in words, and their tokens.

In order: the words around texts and images (`conversation`), with a placeholder for each image;
tokens; then each placeholder becomes as many tokens as its image has vectors.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np

from jaxpool.errors import RequestError
from jaxpool.images.conversation import Conversation, Literal
from jaxpool.images.patches import Picture
from jaxpool.images.places import Place, of_text, spread
from jaxpool.images.tiles import Tiled, TileGrid
from jaxpool.text.options import Tokenization
from jaxpool.text.prompts import Pictures, Prompt, Shortened
from jaxpool.text.shorten import shorten


class Words(NamedTuple):
    """A prompt in words, or ids, and its images.

    places: which of its placeholders are images; write: makes the words of parts, texts and images
    (None), where there are some; processing: as in `Pictures`.
    """

    text: str | list[int]
    places: list[bool] | None = None
    images: tuple = ()
    parts: tuple[str | None, ...] = ()
    processing: Mapping | None = None
    write: Callable[[tuple], tuple[str, list[bool]]] | None = None


def in_words(conversation: Conversation, prompt: Prompt, told: str, whole: bool) -> Words:
    """A prompt in the words of a conversation, unless it is in these already.

    told: the instruction; whole: with the words around its content.
    """
    if not whole:
        conversation = replace(
            conversation, seen="{content}", both="", read="{content}", caption="", told=None
        )
    parts = _parts(conversation, prompt)
    if not isinstance(prompt, Pictures) and not parts:
        return Words(prompt)
    if isinstance(prompt, Pictures):
        told = prompt.instruction or told
    if isinstance(prompt, Pictures) and not parts:
        text = prompt.text
        if isinstance(text, str):
            text = conversation.spelled(text)
            if not conversation.is_written(text, images=True):
                text = conversation.put(text, told, images=True)
        return Words(text, None, prompt.images, (), prompt.processing)
    write = written(conversation.placeholder, lambda parts: conversation.write(parts, told))
    text, places = write(parts)
    if isinstance(prompt, Pictures):
        return Words(text, places, prompt.images, parts, prompt.processing, write)
    black = np.zeros((conversation.blank, conversation.blank, 3), np.uint8)
    return Words(text, places, (black,) * (conversation.blank and sum(places)), parts, None, write)


def _parts(conversation: Conversation, prompt: Prompt) -> tuple[str | None, ...]:
    """The parts of a prompt; none where its caller has put placeholders into the text."""
    if isinstance(prompt, str):
        return (prompt,) if conversation.plain or not conversation.is_written(prompt) else ()
    if not isinstance(prompt, Pictures):
        return ()
    if prompt.by_key and not conversation.by_key:
        return tuple(sorted(prompt.parts, key=lambda part: part is not None))
    if prompt.parts or isinstance(prompt.text, list):
        return prompt.parts
    return () if prompt.text else (None,) * len(prompt.images)


def written(placeholder: str, write: Callable[[tuple], str]) -> Callable:
    """Like `write`, which makes a prompt of parts, but a placeholder within a text stays text.

    Returns the prompt, and which of the placeholders in it are images.
    """

    def wrote(parts: tuple) -> tuple[str, list[bool]]:
        if not placeholder:
            return write(parts), []
        literal = Literal.of(placeholder, [part for part in parts if part])
        return literal.show(write(tuple(part and literal.hide(part) for part in parts)))

    return wrote


def encode(model, words: Sequence[Words], options: Tokenization) -> list[np.ndarray]:
    """The ids of prompts, not cut; ids given by the caller pass."""
    talk = model.conversation
    pieces = [_pieces(talk, one) for one in words]
    read = [text for texts in pieces for text in texts]
    special = options.special_tokens and talk.special_tokens
    if options.truncate is None:
        found = replace(options, special_tokens=special).encode(model.tokenizer, read)
    else:
        found = model.tokenizer(read, special_tokens=special)
    encoded = iter(found)
    end = np.array([] if talk.last is None else [talk.last], np.int32)
    apart = [model.tokenizer.id(talk.placeholder)] if talk.apart else []
    between = np.array(apart, np.int32)
    made = []
    for one, texts in zip(words, pieces, strict=True):
        if not isinstance(one.text, str):
            made.append(np.array(one.text, np.int32))
            continue
        parts = [part for _ in texts for part in (between, next(encoded).ids)][1:]
        made.append(np.concatenate([*parts, end]))
    return made


def _pieces(conversation: Conversation, words: Words) -> list[str]:
    """The texts of a prompt that are tokenized by themselves: one, or those around its images."""
    if not isinstance(words.text, str):
        return []
    if not conversation.apart:
        return [words.text]
    name = conversation.placeholder
    first, *others = words.text.split(name)
    pieces = [first]
    for text, image in zip(others, words.places or [True] * len(others), strict=True):
        if image:
            pieces.append(text)
        else:
            pieces[-1] += name + text
    return pieces


def fitted(model, words: Words, ids: np.ndarray, pictures, options) -> tuple[Place, bool]:
    """The tokens of a prompt with its images; its last text is cut where they would be too many."""
    place = _placed(model, words, ids, pictures)
    cut = any(isinstance(part, Shortened) for part in words.parts)
    while options.truncate is not None and (over := len(place.ids) - options.truncate) > 0:
        last = max((i for i, part in enumerate(words.parts) if part), default=None)
        if last is None or words.write is None:
            break
        text = words.parts[last] or ""
        count = len(model.tokenizer([text], special_tokens=False)[0].ids)
        text = shorten(model.tokenizer, text, count - over) if count > over else ""
        parts = (*words.parts[:last], text, *words.parts[last + 1 :])
        prompt, places = words.write(parts)
        words, cut = words._replace(text=prompt, places=places, parts=parts), True
        (ids,) = encode(model, [words], options)
        place = _placed(model, words, ids, pictures)
    return place, cut


def _placed(model, words: Words, ids: np.ndarray, pictures: list) -> Place:
    name = model.conversation.placeholder
    if not name:
        return Place(ids, np.full(len(ids), -1, np.int32))
    token = model.tokenizer.id(name)
    found = int(np.count_nonzero(ids == token))
    places = [True] * found if words.places is None else words.places
    wanted = sum(places)
    if found != len(places) or wanted != len(pictures):
        more = "more" if wanted > len(pictures) else "fewer"
        raise RequestError(
            f"Found {more} {name!r} placeholders in input prompt than actual multimodal data "
            f"items: {wanted} for {len(pictures)} image(s)"
        )
    literal = model.tokenizer.spelled(name) if found > wanted else np.zeros(0, np.int32)
    own = [(_place(model, token, picture), picture.vectors) for picture in pictures]
    return spread(ids, token, places, own, literal)


def _place(model, token: int, picture: Picture | Tiled) -> Place:
    """The place of an image."""
    tiles = model.conversation.tiles
    if isinstance(picture, Picture):
        ends = [[model.tokenizer.id(name)] for name in model.conversation.around] or [[], []]
        own = np.full(picture.vectors, token, np.int32)
        return of_text(np.concatenate([ends[0], own, ends[1]]).astype(np.int32), token)
    if isinstance(tiles, TileGrid):
        soft = tiles.soft(picture)
        return Place(np.full(len(soft), token, np.int32), soft)
    assert tiles is not None
    text = tiles.write(model.conversation.placeholder, picture)
    return of_text(model.tokenizer([text], special_tokens=False)[0].ids, token)
