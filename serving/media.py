"""Pictures in request bodies: parts of contents, and the URLs that hold them."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from serving.contents import Message
from serving.errors import APIError
from serving.models import Served

TEXTS = ("text", "input_text", "output_text")
IMAGES = ("image_url", "input_image")


def prompt(
    parts: Iterable[str | dict],
    served: Served,
    processing: Mapping[str, Any] | None = None,
    instruction: str = "",
) -> Any:
    """The prompt of content parts: their text, or the pictures and the text beside them.

    instruction: what a model that joins them is told of this prompt.
    """
    from jaxpool.text.prompts import Pictures

    order: list[str | None] = []
    images: list[str] = []
    for part in parts:
        order.append(_text(part))
        if order[-1] is None and isinstance(part, dict):
            images.append(_image(part, served))
    between = "\n" if served.model.conversation is None else ""
    text = between.join(part for part in order if part is not None)
    if not images and not instruction:
        return text
    return Pictures(tuple(images), text, processing, tuple(order), instruction)


def conversation(
    messages: Sequence[Message], served: Served, processing: Mapping[str, Any] | None = None
) -> Any:
    """The prompt of a conversation, whose words around it are the model's own.

    Where the model joins texts and pictures, a system message is its instruction, and a user's
    message follows; an assistant's may follow that, if it says nothing.
    """
    if served.model.conversation is None:
        return prompt([part for one in messages for part in one.parts], served, processing)
    said = list(messages)
    head = said.pop(0).parts if said and said[0].role == "system" else []
    if said and said[-1].role == "assistant" and not any(map(_text, said[-1].parts)):
        said.pop()
    if [one.role for one in said] != ["user"]:
        raise APIError(
            400,
            f"{served.name} reads one message of a user, perhaps after one of the system; found "
            f"messages of {[one.role for one in messages]}",
            "messages",
        )
    told = [_text(part) for part in head]
    if None in told:
        raise APIError(400, "a system message must be of text", "messages")
    return prompt(said[0].parts, served, processing, "".join(part or "" for part in told))


def pictures(
    urls: Sequence[str], served: Served, processing: Mapping[str, Any] | None = None
) -> list:
    """A prompt for each of some URLs of pictures."""
    parts = [{"type": "image_url", "image_url": url} for url in urls]
    return [prompt([part], served, processing) for part in parts]


def seen(prompts: Any) -> bool:
    """Whether there are pictures among some prompts."""
    return not isinstance(prompts, str) and any(hasattr(one, "images") for one in prompts)


def _text(part: str | dict) -> str | None:
    if isinstance(part, str):
        return part
    if part.get("type", "text") not in TEXTS or "image_url" in part:
        return None
    text = part.get("text", "")
    if not isinstance(text, str):
        raise APIError(400, "the text of a content part must be a string", "text")
    return text


def _image(part: dict, served: Served) -> str:
    """The URL of an image part; it is read later, outside the event loop."""
    from jaxpool.text.prompts import Url

    kind = part.get("type", IMAGES[0])
    if kind not in IMAGES:
        raise APIError(
            400,
            f"Unsupported chat content part type: {kind!r}. "
            f"Supported types: {', '.join((*TEXTS, *IMAGES))}",
        )
    if served.model.processor is None:
        raise APIError(400, f"{served.name} is not a multimodal model")
    mesh = served.model.mesh
    if mesh is not None and mesh.is_multi_process:
        raise APIError(400, "images are not served by several processes")
    url = part.get("image_url")
    url = url.get("url") if isinstance(url, dict) else url
    if not isinstance(url, str):
        raise APIError(400, "an image_url must be a URL, or an object with a url", "image_url")
    return Url(url)
