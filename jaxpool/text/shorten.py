"""A text cut to a number of tokens, and still a text."""

from jaxpool.text.prompts import Shortened


def shorten(tokenizer, text: str, limit: int) -> str:
    """`text` up to the end of its token number `limit`; all of it where `limit` is 0."""
    whole = text
    while limit and text:
        offsets = tokenizer([text], special_tokens=False, offsets=True)[0].offsets
        if len(offsets) <= limit:
            break
        end = min(offsets[limit - 1][1], offsets[limit][0])
        text = text[: min(int(end), len(text) - 1)]
    return text if text is whole else Shortened(text)
