"""What may be passed as a prompt, and how it becomes a text or token ids."""

from collections.abc import Mapping, Sequence
from typing import Any, NotRequired, TypedDict

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


PromptType = str | list[int] | TextPrompt | TokensPrompt


def as_prompts(prompts: Any) -> list[str | list[int]]:
    """Texts and token lists of what a caller passed; a flat list of integers is one prompt."""
    if isinstance(prompts, str | Mapping) or _is_ids(prompts):
        prompts = [prompts]
    if not isinstance(prompts, Sequence):
        raise TypeError("Prompt should be a string, list of tokens, or dictionary")
    if not prompts:
        raise ValueError("You must pass at least one prompt")
    return [_as_prompt(prompt) for prompt in prompts]


def _is_ids(prompt: Any) -> bool:
    return isinstance(prompt, Sequence) and bool(prompt) and isinstance(prompt[0], int)


def _as_prompt(prompt: Any) -> str | list[int]:
    if isinstance(prompt, str):
        return prompt
    if isinstance(prompt, Mapping):
        return _of_dict(prompt)
    if isinstance(prompt, list | tuple):
        return _as_ids(prompt)
    raise TypeError("Prompt should be a string, list of tokens, or dictionary")


def _of_dict(prompt: Mapping) -> str | list[int]:
    if prompt.get("multi_modal_data"):
        raise RequestError("multi_modal_data: this is not a multimodal model")
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


def _as_ids(ids: Any) -> list[int]:
    if not isinstance(ids, list | tuple) or not all(
        isinstance(i, int) and not isinstance(i, bool) for i in ids
    ):
        raise TypeError("Token prompt should be a list of integers")
    return list(ids)
