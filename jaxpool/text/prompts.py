"""What may be passed as a prompt, and how it becomes a text or token ids."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, NotRequired, TypedDict

from jaxpool.errors import RequestError


class TextPrompt(TypedDict):
    """A prompt as text."""

    prompt: str
    cache_salt: NotRequired[str]


class TokensPrompt(TypedDict):
    """A prompt as token ids."""

    prompt_token_ids: list[int]
    prompt: NotRequired[str]
    cache_salt: NotRequired[str]


class MultiModalPrompt(TypedDict):
    """A prompt of pictures and, where the model joins them, of text: "image" is one, or a list.

    A picture is a PIL.Image, a uint8 array `[height, width, 3]`, a path, the bytes of a file, or a
    URL (`data:`, and `http(s):` and `file:` where `MediaOptions` allow them).
    """

    multi_modal_data: Mapping[str, Any]
    prompt: NotRequired[str]
    prompt_token_ids: NotRequired[list[int]]
    mm_processor_kwargs: NotRequired[Mapping[str, Any]]


PromptType = str | list[int] | TextPrompt | TokensPrompt | MultiModalPrompt


class Shortened(str):
    """A text of which a part was left out before, so that its template stays whole."""


class Url(str):
    """A picture's URL, whatever it looks like: no path is read for it."""


class Pictures(NamedTuple):
    """A prompt with pictures, and the text or token ids beside them.

    processing: what replaces fields of the checkpoint's preprocessor_config.json; parts: texts and,
    for each picture, None, in their order, where the text is given without placeholders; `text` is
    then all of it; instruction: of this prompt, in place of the call's; by_key: the parts came
    under names, in this order, which not every model keeps.
    """

    images: tuple
    text: str | list[int] = ""
    processing: Mapping[str, Any] | None = None
    parts: tuple[str | None, ...] = ()
    instruction: str = ""
    by_key: bool = False


Prompt = str | list[int] | Pictures


def as_prompts(prompts: Any) -> list[Prompt]:
    """What a caller passed as a list of prompts; a flat list of integers is one prompt.

    A picture by itself is a prompt, as sentence-transformers has it, and so is {"image": picture}.
    """
    if isinstance(prompts, str | Mapping | Pictures) or _is_ids(prompts) or is_picture(prompts):
        prompts = [prompts]
    if not isinstance(prompts, Sequence):
        raise TypeError("Prompt should be a string, list of tokens, or dictionary")
    if not prompts:
        raise ValueError("You must pass at least one prompt")
    return [_as_prompt(prompt) for prompt in prompts]


def _is_ids(prompt: Any) -> bool:
    return isinstance(prompt, Sequence) and bool(prompt) and isinstance(prompt[0], int)


def is_picture(prompt: Any) -> bool:
    """Whether a prompt is a Pillow image or the array of one, told without Pillow."""
    return hasattr(prompt, "getbands") or (hasattr(prompt, "ndim") and prompt.ndim in (2, 3))


def _as_prompt(prompt: Any) -> Prompt:
    if isinstance(prompt, str | Pictures):
        return prompt
    if is_picture(prompt):
        return Pictures((prompt,))
    if isinstance(prompt, Mapping):
        return _of_dict(prompt)
    if isinstance(prompt, list | tuple):
        return _as_ids(prompt)
    raise TypeError("Prompt should be a string, list of tokens, or dictionary")


def _of_dict(prompt: Mapping) -> Prompt:
    if "image" in prompt:
        images, text = _images({"image": prompt["image"]}), prompt.get("text", "")
        own = {"image": (None,) * len(images), "text": (text,) if text else ()}
        parts = tuple(part for key in prompt for part in own.get(key, ()))
        return Pictures(images, text, prompt.get("mm_processor_kwargs"), parts, by_key=True)
    if images := _images(prompt.get("multi_modal_data") or {}):
        ids = prompt.get("prompt_token_ids")
        text = prompt.get("prompt", "") if ids is None else _as_ids(ids)
        return Pictures(images, text, prompt.get("mm_processor_kwargs"))
    if "data" in prompt:
        raise ValueError("The 'data' field is only supported for the 'plugin' pooling task.")
    if "prompt_token_ids" in prompt:
        return _as_ids(prompt["prompt_token_ids"])
    if "prompt_embeds" in prompt:
        raise RequestError("prompt_embeds: embeddings as input are not supported")
    if "prompt" not in prompt:
        raise TypeError("Prompt dictionary must contain text, tokens, or embeddings")
    if not isinstance(prompt["prompt"], str):
        raise TypeError("Prompt text should be a string")
    return prompt["prompt"]


def _images(media: Mapping) -> tuple:
    if other := sorted(set(media) - {"image"}):
        raise RequestError(f"multi_modal_data: only images are supported, got {', '.join(other)}")
    images = media.get("image", ())
    return tuple(images) if isinstance(images, list | tuple) else (images,)


def of_parts(parts: Sequence[Any]) -> str | Pictures:
    """The prompt of content parts, as messages have them: texts joined, pictures beside them."""
    texts: list[str | None] = []
    images: list = []
    for part in parts:
        match part:
            case str() | {"type": "text", "text": str()}:
                texts.append(part if isinstance(part, str) else part["text"])
            case {"image_url": {"url": str(url)}} | {"image_url": str(url)}:
                images.append(Url(url))
            case {"image_pil": image} | {"image": image}:
                images.append(image)
            case _:
                raise RequestError(
                    "a content part must be of type text, image_url or image_pil, got "
                    f"{part.get('type') if isinstance(part, Mapping) else type(part).__name__!r}"
                )
        texts += [None] * (len(images) - texts.count(None))
    text = "".join(part for part in texts if part)
    return Pictures(tuple(images), text, parts=tuple(texts)) if images else text


def _as_ids(ids: Any) -> list[int]:
    if not isinstance(ids, list | tuple) or not all(
        isinstance(i, int) and not isinstance(i, bool) for i in ids
    ):
        raise TypeError("Token prompt should be a list of integers")
    return list(ids)
