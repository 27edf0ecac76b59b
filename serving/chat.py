"""Conversations to prompts, by the chat template of the request, the server or the tokenizer."""

import asyncio
import re
from typing import Any

from jaxpool.scoring.fit import excess, shorter
from jaxpool.text.options import Tokenization
from jaxpool.text.prompts import Shortened
from serving.errors import APIError, refusing
from serving.models import Served
from serving.schemas import Message
from serving.service import Service

NO_TEMPLATE = (
    "As of transformers v4.44, default chat template is no longer allowed, so you must provide a "
    "chat template if the tokenizer does not define one."
)
UNTRUSTED = (
    "Chat template is passed with request, but --trust-request-chat-template is not set. "
    "Refused request with untrusted chat template."
)
BOTH_FLAGS = "Cannot set both `continue_final_message` and `add_generation_prompt` to True."
# Templates that walk through the parts of a content want a list, the others a text.
WALKS_PARTS = re.compile(r"for\s+\w+\s+in\s+\w+(\.content|\[['\"]content['\"]\])")
RESERVED = {"chat_template", "tools", "tokenize"}


def conversations(value: Any) -> list[list[Message]] | None:
    """`value` as conversations, if it is one or a list of them."""
    if not isinstance(value, list) or not value:
        return None
    if isinstance(value[0], Message):
        return [value]
    if isinstance(value[0], list) and value[0] and isinstance(value[0][0], Message):
        return value
    return None


def choose(body: Any, served: Served, trust: bool) -> str:
    """The template of a request, or an error that says why there is none."""
    if body.chat_template in served.templates:
        body.chat_template = served.templates[body.chat_template]
    elif body.chat_template is not None and not trust:
        raise APIError(400, UNTRUSTED)
    own = served.templates
    template = body.chat_template or served.chat_template or own.get("default")
    if not template and own:
        raise APIError(400, f"The tokenizer has chat templates by name: {sorted(own)}; name one")
    if not template:
        raise APIError(400, NO_TEMPLATE)
    if body.add_generation_prompt and body.continue_final_message:
        raise APIError(400, BOTH_FLAGS)
    return template


async def prompts(
    asked: list[list[Message]],
    template: str,
    body: Any,
    served: Served,
    shared: Service,
    tokenization: dict,
) -> list[str]:
    """The prompt of each conversation.

    Where it is to be cut, contents are, and the template's end stays: that is what is read.
    """
    texts = await render(asked, template, body, served, shared)
    tokenizer = served.model.tokenizer
    with refusing():
        options = Tokenization.of(tokenization, served.model.max_length)
        for i, messages in enumerate(asked):
            contents = tuple(_joined(message, served) for message in messages)
            while over := await asyncio.to_thread(excess, tokenizer, texts[i], options):
                contents = await asyncio.to_thread(shorter, tokenizer, contents, over, options)
                cut = [_with(messages, contents)]
                texts[i] = Shortened((await render(cut, template, body, served, shared))[0])
    return texts


def _joined(message: Message, served: Served) -> str:
    """The text of a message, its parts in one."""
    content = message.content or ""
    return content if isinstance(content, str) else "\n".join(_text(p, served) for p in content)


def _with(messages: list[Message], contents: tuple) -> list[Message]:
    pairs = zip(messages, contents, strict=True)
    return [message.model_copy(update={"content": content}) for message, content in pairs]


async def render(
    conversations: list[list[Message]], template: str, body: Any, served: Served, shared: Service
) -> list[str]:
    """The prompt of each conversation, whole."""
    walks = bool(WALKS_PARTS.search(template))
    told = [[_message(message, walks, served) for message in one] for one in conversations]
    options = {k: v for k, v in (body.chat_template_kwargs or {}).items() if k not in RESERVED}
    options["add_generation_prompt"] = body.add_generation_prompt
    options["continue_final_message"] = body.continue_final_message
    return await shared.render(served, template, told, options)


def _message(message: Message, walks: bool, served: Served) -> dict:
    fields = message.model_dump()
    content = message.content
    if content is not None and (walks or not isinstance(content, str)):
        texts = [content] if isinstance(content, str) else [_text(p, served) for p in content]
        parts = [{"type": "text", "text": text} for text in texts]
        fields["content"] = parts if walks else "\n".join(texts)
    return fields


def _text(part: str | dict, served: Served) -> str:
    if isinstance(part, str):
        return part
    if isinstance(part.get("text"), str):
        return part["text"]
    raise APIError(400, f"{served.name} is not a multimodal model")
