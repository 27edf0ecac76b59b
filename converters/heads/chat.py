"""The words that a chat template puts around texts and images, found by rendering it.

For folders whose texts sentence-transformers reads as messages: a user's message, and before it the
prompt as one of the system. A template that does more than put words around them is refused.
"""

from collections.abc import Callable
from dataclasses import replace
from functools import lru_cache, partial
from typing import Any

import orjson

from converters.report import CheckpointError
from jaxpool.errors import RequestError
from jaxpool.images.conversation import UNUSED, Conversation
from jaxpool.text.chat_templates import chat_templates
from jaxpool.text.late_interaction import SIDES
from jaxpool.text.rendering import render

TEXT, OTHER, TOLD = (chr(point) for point in UNUSED[:3])
AROUND = f" \n{TEXT}  y\n "  # a text whose ends templates may strip
RESERVED = {"chat_template", "tools", "tokenize", "task"}


def conversation(checkpoint, tokenizer) -> Conversation | None:
    """The words around texts and images; None where a text is read as it is.

    Those of the family, or of the chat template where the checkpoint's files ask for messages.
    """
    found = checkpoint.family.conversation
    found = found(checkpoint.name, checkpoint.config) if callable(found) else found
    chat = checkpoint.pipeline.chat if checkpoint.pipeline else None
    if chat is None:
        return found
    if clash := sorted(RESERVED & chat.options.keys()):
        raise CheckpointError(f"processing_kwargs: chat_template: {clash} may not be given")
    source = chat_templates(checkpoint.tokenizer_folder).get("default")
    if source is None:
        raise CheckpointError("modality_config asks for messages, and there is no chat template")
    late = checkpoint.late_interaction
    if late and (late.expansion or any(late.skipped.values()) or any(late.lengths.values())):
        raise CheckpointError(
            "modality_config asks for messages, whose tokens are neither skipped "
            "nor counted by side: MultiVectorMask, query_length and document_length must be absent"
        )
    variables = {**tokenizer.transformers.special_tokens_map, **chat.options}
    words = _words(source, chat.structured, variables, found)
    if words.told is None and any(checkpoint.pipeline.prompts.values()):
        raise CheckpointError("chat template: it has no place for the prompts, a system message")
    return words


def _words(
    source: str, structured: bool, variables: dict, found: Conversation | None
) -> Conversation:
    put = partial(_rendered, source, structured, orjson.dumps(variables))
    read, trims = _around(put)
    sides: dict[str, str] = {}
    for side in SIDES:
        own, _ = _around(partial(put, task=side))
        sides |= {side: own} if own != read else {}
    bare = found or Conversation("", "", special_tokens=False)
    begins = variables.get("bos_token") or "\0"
    made = replace(
        bare,
        read=read,
        seen=read,
        sides=sides,
        instruction="",
        caption="",
        trims=trims,
        by_key=True,
        # transformers' processors add theirs unless the template wrote the first
        special_tokens=found is not None and not read.startswith(begins),
    )
    if found:
        made = replace(made, image=_image(put, made))
    try:
        told = put(TEXT, told=TOLD)
    except RequestError:
        return made  # no message of a system is allowed
    if told.count(TOLD) != 1 or told.count(TEXT) != 1:
        return made
    asked = {side: _named(put(TEXT, told=TOLD, task=side)) for side in sides}
    words = _named(told)
    return replace(made, told=replace(made, read=words, seen=words, sides=asked))


def _named(words: str) -> str:
    return words.replace(TEXT, "{content}").replace(TOLD, "{instruction}")


@lru_cache(maxsize=64)
def _rendered(
    source: str,
    structured: bool,
    variables: bytes,
    *parts: str | None,
    told: str = "",
    task: str = "",
) -> str:
    """The prompt of texts and images (None) of a user, told something before."""
    messages = [{"role": "system", "content": _content(structured, told)}] if told else []
    messages += [{"role": "user", "content": _content(structured, *parts)}]
    options = orjson.loads(variables) | ({"task": task} if task else {})
    return render(source, [messages], options)[0]


def _content(structured: bool, *parts: str | None) -> Any:
    if not structured and len(parts) == 1 and parts[0] is not None:
        return parts[0]
    image = {"type": "image", "image": "image"}
    return [image if part is None else {"type": "text", "text": part} for part in parts]


def _around(put: Callable) -> tuple[str, bool]:
    """The words around a text, {content} in them, and whether its ends are stripped."""
    words = _named(put(TEXT))
    if words.count("{content}") != 1:
        raise CheckpointError(
            f"chat template: a text must stand in it once, found {words.count('{content}')} times"
        )
    found = put(AROUND)
    for text in (AROUND, AROUND.strip()):
        if found == words.replace("{content}", text):
            return words, text != AROUND
    raise CheckpointError("chat template: it changes the texts that it is given")


def _image(put: Callable, words: Conversation) -> str:
    """What stands for an image, wherever it is among the texts."""
    found = put(TEXT, None, OTHER).partition(TEXT)[2].partition(OTHER)[0]
    if found.count(words.placeholder) != 1:
        raise CheckpointError(f"chat template: an image must be {words.placeholder!r}: {found!r}")
    with_image = replace(words, image=found)
    for parts in ([None], [None, TEXT], [TEXT, None], [None, None, TEXT]):
        if put(*parts) != with_image.write(parts):
            raise CheckpointError(
                "chat template: words around images depend on what is beside them"
            )
    return found
