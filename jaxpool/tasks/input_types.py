"""What a text is for (`input_type`), in the words of checkpoints and of their clients."""

from collections.abc import Iterable

# What checkpoints and clients call the same use, its plainest name first.
USES = (
    (
        "query",
        "search_query",
        "retrieval.query",
        "retrieval-query",
        "s2p_query",
        "web_search_query",
    ),
    (
        "document",
        "passage",
        "search_document",
        "retrieval.passage",
        "retrieval-document",
        "corpus",
    ),
    ("classification",),
    ("clustering", "separation"),
)


def meaning(input_type: str) -> str:
    """The plainest name of a use."""
    return next((use[0] for use in USES if input_type.lower() in use), input_type)


def find(input_type: str | None, names: Iterable[str]) -> str | None:
    """Which of a checkpoint's `names` an input type means: itself, or one for the same use."""
    if input_type is None:
        return None
    known, asked = {name.lower(): name for name in names}, input_type.lower()
    use = next((use for use in USES if asked in use), ())
    return next((known[name] for name in (asked, *use) if name in known), None)
