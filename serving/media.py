"""Pictures in request bodies: parts of contents, and the URLs that hold them."""

import base64
import binascii
from collections.abc import Iterable, Sequence
from typing import Any

from serving.errors import APIError
from serving.models import Served

TEXTS = ("text", "input_text", "output_text")
IMAGES = ("image_url", "input_image")
NOT_FETCHED = "URLs are not fetched by this server: send the image as a data: URL"


def prompt(parts: Iterable[str | dict], served: Served) -> Any:
    """The prompt of content parts: their text, or the pictures and the text beside them."""
    from jaxpool.text.prompts import Pictures

    texts: list[str] = []
    images: list[bytes] = []
    for part in parts:
        text = _text(part)
        if text is None and isinstance(part, dict):
            images.append(_image(part, served))
        else:
            texts.append(text or "")
    text = "\n".join(texts)
    return Pictures(tuple(images), text) if images else text


def pictures(urls: Sequence[str], served: Served) -> list:
    """A prompt for each of some URLs of pictures."""
    parts = [{"type": "image_url", "image_url": url} for url in urls]
    return [prompt([part], served) for part in parts]


def _text(part: str | dict) -> str | None:
    if isinstance(part, str):
        return part
    kind = part.get("type", "text")
    return part.get("text", "") if kind in TEXTS and "image_url" not in part else None


def _image(part: dict, served: Served) -> bytes:
    """The file of an image part."""
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
    return _fetch(url)


def _fetch(url: str) -> bytes:
    scheme, _, rest = url.partition(":")
    match scheme.lower():
        case "data":
            return _of_data(rest)
        case "http" | "https":
            raise APIError(400, NOT_FETCHED, "image_url")
        case "file":
            raise APIError(400, "Cannot load local files: send a data: URL", "image_url")
    raise APIError(400, "The URL must be either a HTTP, data or file URL.", "image_url")


def _of_data(rest: str) -> bytes:
    """The bytes of `image/png;base64,...`."""
    head, comma, payload = rest.partition(",")
    kind, *options = head.split(";")
    if not comma:
        raise APIError(400, "Invalid data URL: it has no comma", "image_url")
    if "base64" not in options:
        raise APIError(400, "Only base64 data URLs are supported for now.", "image_url")
    if not kind.startswith("image/"):
        raise APIError(400, f"Invalid data URL: wanted an image, found {kind!r}", "image_url")
    try:
        return base64.b64decode(payload, validate=True)
    except binascii.Error as error:
        raise APIError(400, f"Invalid data URL: {error}", "image_url") from None
