"""Queries and documents with images in the prompt of a cross-encoder."""

from collections.abc import Callable, Sequence

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
    images = tuple(image for side in seen for image in side.images)
    processing = next((side.processing for side in seen), None)  # a call has one for both sides
    parts = tuple(part for own in of_sides for part in own)
    text, places = wrote(parts)
    return Words(text, places, images, parts, processing, wrote)
