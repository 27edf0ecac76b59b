"""Which tokens of a prompt are its document's, for models that make documents shorter."""

from collections.abc import Callable, Sequence
from os.path import commonprefix
from typing import NamedTuple

import numpy as np

from jaxpool.errors import RequestError
from jaxpool.text.tokenizer import Tokens


class Around(NamedTuple):
    """What a template writes before the line of a document, and after the document."""

    before: str
    after: str


def around(render: Callable, query: str) -> Around:
    """What is around the documents of a query, whatever they are."""
    one, other = render([(query, "\0"), (query, "\1")])
    before = commonprefix([one, other])
    return Around(before[: before.rfind("\n") + 1], commonprefix([one[::-1], other[::-1]])[::-1])


def marked(
    tokens: Sequence[Tokens], prompts: Sequence[str], asked: Sequence[tuple], render: Callable
) -> list[Tokens]:
    """Prompts' tokens (with offsets), of type 1 from the beginning of a document's line to its end.

    asked: the (query, document) of each prompt.
    """
    known = {query: around(render, query) for query in {query for query, _ in asked}}
    found = []
    for one, prompt, (query, _) in zip(tokens, prompts, asked, strict=True):
        before, after = known[query]
        if not (prompt.startswith(before) and prompt.endswith(after)):
            raise RequestError(
                "a model that shortens documents needs the query and the document by themselves, "
                "and this pair is a prompt already"
            )
        assert one.offsets is not None
        first, end = one.offsets.T
        inside = (first >= len(before)) & (end <= len(prompt) - len(after)) & (first < end)
        found.append(one._replace(types=inside.astype(np.int32), offsets=None))
    return found
