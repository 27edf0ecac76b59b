"""What a caller may ask: prompts, `PoolingParams`, `PoolerConfig`."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any, TypedDict


class TextPrompt(TypedDict):
    """A prompt as text."""

    prompt: str


class TokensPrompt(TypedDict):
    """A prompt as token ids."""

    prompt_token_ids: list[int]


PromptType = str | list[int] | TextPrompt | TokensPrompt

ALIASES = {
    "normalize": "use_activation",
    "softmax": "use_activation",
    "activation": "use_activation",
}


@dataclass
class PoolingParams:
    """Options of one pooling request; None leaves a value to the model.

    use_activation: normalize embeddings, softmax or sigmoid logits; dimensions: leading features
    kept (Matryoshka models only).
    """

    dimensions: int | None = None
    use_activation: bool | None = None
    normalize: bool | None = None
    softmax: bool | None = None
    task: str | None = None

    def __post_init__(self):
        for alias in ("normalize", "softmax"):
            value = getattr(self, alias)
            if value is not None and self.use_activation is None:
                self.use_activation = value


@dataclass
class PoolerConfig:
    """How a model pools; every field left None falls back to the checkpoint, then its class."""

    task: str | None = None
    pooling_type: str | None = None
    seq_pooling_type: str | None = None
    tok_pooling_type: str | None = None
    use_activation: bool | None = None
    dimensions: int | None = None
    enable_chunked_processing: bool = False
    max_embed_len: int | None = None
    logit_mean: float | None = None
    logit_sigma: float | None = None
    step_tag_id: int | None = None
    returned_token_ids: list[int] | None = None

    def __post_init__(self):
        if self.pooling_type is None:
            return
        for name in ("seq_pooling_type", "tok_pooling_type"):
            if getattr(self, name) is not None:
                raise ValueError(f"Cannot set both `pooling_type` and `{name}`")
        tokens = self.pooling_type.upper() in ("ALL", "STEP")
        setattr(self, "tok_pooling_type" if tokens else "seq_pooling_type", self.pooling_type)


def as_pooler_config(value: "PoolerConfig | Mapping[str, Any] | None") -> PoolerConfig:
    """A `PoolerConfig` from an object, a dict of its fields, or nothing."""
    if value is None:
        return PoolerConfig()
    if isinstance(value, PoolerConfig):
        return value
    known = {field.name for field in fields(PoolerConfig)}
    if "normalize" in value:
        raise ValueError("Parameter `normalize` was removed; use `use_activation` instead.")
    if unknown := sorted(set(value) - known):
        raise ValueError(f"PoolerConfig has no field {unknown}; fields: {sorted(known)}")
    return PoolerConfig(**value)


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
    if isinstance(prompt, Mapping):
        if "prompt_token_ids" in prompt:
            return _as_ids(prompt["prompt_token_ids"])
        if "prompt" not in prompt:
            raise TypeError("Prompt dictionary must contain text, tokens, or embeddings")
        if not isinstance(prompt["prompt"], str):
            raise TypeError("Prompt text should be a string")
        return prompt["prompt"]
    if isinstance(prompt, str):
        return prompt
    if isinstance(prompt, list | tuple):
        return _as_ids(prompt)
    raise TypeError("Prompt should be a string, list of tokens, or dictionary")


def _as_ids(ids: Any) -> list[int]:
    if not isinstance(ids, list | tuple) or not all(
        isinstance(i, int) and not isinstance(i, bool) for i in ids
    ):
        raise TypeError("Token prompt should be a list of integers")
    return list(ids)
