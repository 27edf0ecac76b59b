"""Queries and documents with images in the prompt of a cross-encoder."""

from collections.abc import Callable, Sequence

from jaxpool.images.conversation import UNUSED
from jaxpool.images.words import Words, written
from jaxpool.text.prompts import Pictures


def in_template(conversation, sides: Sequence[Pictures | str], render: Callable) -> Words:
    """A query and a document, texts or prompts with images, in the words of a template.

    render: the prompts of pairs of texts. A placeholder that a text spells out stays text.
    """
    of_sides = [side.parts if isinstance(side, Pictures) else (side,) for side in sides]
    counts = [len(parts) for parts in of_sides]

    def write(parts: tuple) -> str:
        texts, left = [], iter(parts)
        for count in counts:
            own = (next(left) for _ in range(count))
            texts.append("".join(conversation.image if part is None else part for part in own))
        return render([tuple(texts)])[0]

    wrote = written(conversation.placeholder, write)
    seen = [side for side in sides if isinstance(side, Pictures)]
    if len(seen) > 1:
        seen = [seen[i] for i in _order(render, len(seen))]
    images = tuple(image for side in seen for image in side.images)
    processing = next((side.processing for side in seen), None)  # a call has one for both sides
    parts = tuple(part for own in of_sides for part in own)
    text, places = wrote(parts)
    return Words(text, places, images, parts, processing, wrote)


def _order(render: Callable, count: int) -> list[int]:
    """The order in which a template has what it is given."""
    signs = [chr(UNUSED[i]) for i in range(count)]
    words = render([tuple(signs)])[0]
    return sorted(range(count), key=lambda i: words.find(signs[i]))
