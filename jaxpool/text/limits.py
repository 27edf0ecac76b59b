"""How many tokens a request may have, and the check of these."""

from collections.abc import Sequence

import numpy as np

from jaxpool.errors import RequestError
from jaxpool.tasks.task import Task
from jaxpool.text.tokenizer import NO_LIMIT


def limit_of(model, tasks: Sequence[Task]) -> int:
    """Tokens a request may have: the model's, or max_embed_len where embeddings say so."""
    config, limits = model.pooler_config, set()
    for task in tasks:
        embeds = task.name == "embed"
        pieces = embeds and config.enable_chunked_processing
        limits.add(NO_LIMIT if pieces else model.max_length)
        if embeds and config.max_embed_len:
            limits.add(config.max_embed_len)
    return min(limits)


def check_tokens(model, ids: np.ndarray, limit: int, exact: bool) -> None:
    """Refuse empty, too long and out-of-vocabulary requests; `exact` if the length is no guess."""
    count = len(ids) if exact else min(len(ids), limit + 1)
    if not count:
        if model.arch.layers == 0:
            return  # the mean of no rows of a table is zero
        raise RequestError("The decoder prompt cannot be empty")
    if count > limit:
        least = "at least " if count == limit + 1 else ""
        raise RequestError(
            f"This model's maximum context length is {limit} tokens. However, your prompt "
            f"contains {least}{count} input tokens, which exceeds this limit even without any "
            "output tokens. Please reduce the length of the input prompt.",
            "input_tokens",
            count,
        )
    vocab = model.arch.vocab
    if ids.min() < 0 or ids.max() >= vocab:
        bad = int(ids[(ids < 0) | (ids >= vocab)][0])
        raise RequestError(f"Token id {bad} is out of vocabulary")
