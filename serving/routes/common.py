"""What the routes share: dependencies, prompts of a body, the frame of an answer."""

import time
from collections.abc import Callable
from typing import Any

from fastapi import Depends, Request

from serving import chat, media
from serving.config import Options
from serving.errors import APIError
from serving.job import Job
from serving.middleware import header, require_json
from serving.models import Served
from serving.schemas import Common, MediaInput, Message, Prompts
from serving.service import Service


async def json_only(request: Request) -> None:
    """Refuse bodies that do not say they are JSON."""
    require_json(request.scope)


def service(request: Request) -> Service:
    """The service of the app that answers a request."""
    return request.app.state.service


def serves(able: Callable[[Served], Any]) -> list:
    """Dependencies of a route that answers only if some model is `able`."""

    async def check(request: Request) -> None:
        service(request).models.require(able)

    return [Depends(check), Depends(json_only)]


def rid(body: Any, request: Request) -> str:
    """The id a client gives in a header or the body, or the random one of the request."""
    given = header(request.scope, b"x-request-id").decode("latin-1")
    return given or body.request_id or request.scope["state"]["id"][:16]


UNTRUSTED = (
    "Per-request mm_processor_kwargs are disabled by default because they can change multimodal "
    "preprocessing resource usage. Start the server with --trust-request-mm-kwargs only when "
    "clients are trusted."
)


def check_common(body: Common, options: Options) -> None:
    """Refuse what a body may not ask of this server."""
    if body.mm_processor_kwargs and not options.trust_request_mm_kwargs:
        raise APIError(400, UNTRUSTED, "mm_processor_kwargs")
    salt = body.cache_salt or ""
    if len(salt) > 128 or any(c in salt for c in "@/\\\0"):
        raise APIError(
            400, "cache_salt must be at most 128 characters without @ / \\ NUL", "cache_salt"
        )


def tokenization(body: Common) -> dict:
    """The tokenizer's options in a body."""
    return {
        "truncate_prompt_tokens": body.truncate_prompt_tokens,
        "truncation_side": body.truncation_side,
        "padding": body.padding,
    }


async def prompts_of(body: Prompts, served: Served, shared: Service) -> tuple[Any, bool]:
    """The prompts of a body, and whether special tokens are added to them."""
    check_common(body, shared.options)
    processing = body.mm_processor_kwargs
    messages, special = conversations(body), body.add_special_tokens is not False
    given: Any = body.messages if body.input is None else body.input
    if isinstance(given, list) and given and isinstance(given[0], MediaInput):
        return [media.prompt(one.parts, served, processing) for one in given], special
    if body.modality == "image":
        return media.pictures(_urls(given), served, processing), special
    if messages is None:
        return given, special
    if served.model.processor:  # has its own words around texts and pictures, or none
        if served.model.conversation and body.chat_template is not None:
            message = f"chat_template: {served.name} has its own words around texts and pictures"
            raise APIError(400, message, "chat_template")
        return [media.conversation(one, served, processing) for one in messages], special
    template = chat.choose(body, served, shared.options.trust_request_chat_template)
    added = {"add_special_tokens": bool(body.add_special_tokens)}
    cut = tokenization(body) | added
    texts = await chat.prompts(messages, template, body, served, shared, cut)
    return texts, bool(body.add_special_tokens)


def _urls(given: Any) -> list[str]:
    """The URLs of pictures in an `input`, as infinity's clients send them."""
    urls = [given] if isinstance(given, str) else given
    if not urls or not all(isinstance(url, str) for url in urls):
        raise APIError(400, "input must be the URLs of images where modality is image", "input")
    return urls


def conversations(body: Prompts) -> list[list[Message]] | None:
    """The conversations of a body, in either of its fields."""
    return chat.conversations(body.messages if body.input is None else body.input)


async def run_parts(
    scoring: Any, served: Served, priority: int, request: Request
) -> tuple[list[Job], Any]:
    """The jobs of all parts of a `jaxpool.scoring.pairs.Scoring`, and what they come to."""
    jobs: list[Job] = []
    results: list = []
    for part in scoring.parts:
        given = part.after(results)
        job = await service(request).compute(served, part.task, given, priority, request)
        jobs.append(job)
        results += job.results
    return jobs, scoring.combine(results)


def is_chat(body: Prompts) -> bool:
    """Whether a template writes the texts: no default prompt goes before them."""
    return conversations(body) is not None


def size_of(prompts: Any) -> int:
    """How many characters (or ids) a tokenizer call is about."""
    if isinstance(prompts, str):
        return len(prompts)
    return sum(map(_size, prompts))


def _size(prompt: Any) -> int:
    return len(prompt) if isinstance(prompt, str | list) else 1


def usage(tokens: int, full: bool = True) -> dict:
    """Tokens used; `full` adds the keys of the OpenAI schema that are always empty here."""
    counts: dict[str, int | None] = {"prompt_tokens": tokens, "total_tokens": tokens}
    if full:
        counts |= {
            "completion_tokens": 0,
            "prompt_tokens_details": None,
            "completion_tokens_details": None,
        }
    return counts


def frame(kind: str, name: str, served: Served, data: list, used: dict) -> dict:
    """The common shape of a list answer."""
    return {
        "id": f"{kind}-{name}",
        "object": "list",
        "created": int(time.time()),
        "model": served.name,
        "data": data,
        "usage": used,
    }
