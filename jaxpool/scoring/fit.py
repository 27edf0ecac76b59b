"""Prompts of a template cut to a length: what is cut is content, and the template stays whole.

A reranker made of a language model is read at its last token, which belongs to the template.
"""

from collections.abc import Callable, Sequence

from jaxpool.errors import RequestError
from jaxpool.text.options import Tokenization
from jaxpool.text.shorten import shorten

BYTES = 4  # of a character in UTF-8 at most; no token has less than one


def fit(
    tokenizer, render: Callable, asked: Sequence[tuple], options: Tokenization
) -> tuple[list[str], list[tuple], list[bool]]:
    """The prompt of each (query, document, ...), its texts, and whether they were cut to fit.

    Cut on the left, a prompt keeps its end anyway: then this is left to the tokens.
    """
    prompts, fitted = render(asked), list(asked)
    cut = [False] * len(prompts)
    for index, texts in enumerate(asked):
        while over := excess(tokenizer, prompts[index], options):
            texts, cut[index] = shorter(tokenizer, texts, over, options), True
            (prompts[index],) = render([texts])
            fitted[index] = texts
    return prompts, fitted, cut


def excess(tokenizer, prompt: str, options: Tokenization) -> int:
    """How many tokens a prompt has too many, unless it is cut on the left."""
    limit = options.truncate
    if limit is None or options.side == "left" or len(prompt) * BYTES <= limit:
        return 0
    tokens = tokenizer([prompt], special_tokens=options.special_tokens)[0]
    return max(0, len(tokens.ids) - limit)


def shorter(tokenizer, texts: tuple, over: int, options: Tokenization) -> tuple:
    """The same with its longest document, or else its query, shorter by `over` tokens."""
    query, *documents = texts
    if any(documents):
        place = max(range(len(documents)), key=lambda i: len(documents[i])) + 1
    elif query:
        place = 0
    else:
        raise RequestError(
            f"the template alone has {over} tokens more than the limit of {options.truncate}"
        )
    count = len(tokenizer([texts[place]], special_tokens=False)[0].ids)
    text = shorten(tokenizer, texts[place], count - over) if count > over else ""
    return (*texts[:place], text, *texts[place + 1 :])
