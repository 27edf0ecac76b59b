"""Pictures in request bodies: parts of contents, and the URLs that hold them."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from serving.errors import APIError
from serving.models import Served

TEXTS = ("text", "input_text", "output_text")
IMAGES = ("image_url", "input_image")


def prompt(
    parts: Iterable[str | dict], served: Served, processing: Mapping[str, Any] | None = None
) -> Any:
    """The prompt of content parts: their text, or the pictures and the text beside them."""
    from jaxpool.text.prompts import Pictures

    texts: list[str] = []
    images: list[str] = []
    for part in parts:
        text = _text(part)
        if text is None and isinstance(part, dict):
            images.append(_image(part, served))
        else:
            texts.append(text or "")
    text = "\n".join(texts)
    return Pictures(tuple(images), text, processing) if images else text


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
    kind = part.get("type", "text")
    return part.get("text", "") if kind in TEXTS and "image_url" not in part else None


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
    if served.model.mesh.is_multi_process:
        raise APIError(400, "images are not served by several processes")
    url = part.get("image_url")
    url = url.get("url") if isinstance(url, dict) else url
    if not isinstance(url, str):
        raise APIError(400, "an image_url must be a URL, or an object with a url", "image_url")
    return Url(url)
