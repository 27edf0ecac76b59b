"""Health, version, models, tokens, metrics, load."""

import time
import uuid
from functools import cache
from importlib.metadata import PackageNotFoundError
from importlib.metadata import version as distribution_version

from fastapi import APIRouter, Depends, Request, Response

from serving import chat
from serving.encoding import json_response
from serving.errors import APIError
from serving.models import Served
from serving.routes.common import json_only, service
from serving.routes.route import JsonRoute
from serving.schemas import DetokenizeRequest, TokenizeRequest

router = APIRouter(route_class=JsonRoute)
PERMISSION = {
    "object": "model_permission",
    "allow_create_engine": False,
    "allow_sampling": True,
    "allow_logprobs": True,
    "allow_search_indices": False,
    "allow_view": True,
    "allow_fine_tuning": False,
    "organization": "*",
    "group": None,
    "is_blocking": False,
}


@router.get("/health")
@router.get("/ping")
@router.post("/ping")
async def health(request: Request) -> Response:
    """200 when the device answers; 503 while starting, or when it is stuck or dead."""
    await service(request).check_health()
    return Response()


@router.get("/version")
async def version() -> Response:
    """The version of jaxpool."""
    return json_response({"version": _version()})


@cache
def _version() -> str:
    """The installed version, which is read from the distribution's files."""
    try:
        return distribution_version("jaxpool")
    except PackageNotFoundError:  # run from its sources
        return "unknown"


@router.get("/load")
async def load(request: Request) -> Response:
    """Requests being answered, where `--enable-server-load-tracking` counts them."""
    return json_response({"server_load": await service(request).load()})


@router.get("/metrics")
async def metrics(request: Request) -> Response:
    """Prometheus metrics."""
    text = await service(request).devices.page()
    return Response(text, media_type="text/plain; version=0.0.4; charset=utf-8")


@router.get("/v1/models")
async def models(request: Request) -> Response:
    """A card for each served name, and for each adapter."""
    registry = service(request).models
    registry.find(None)
    cards = [_card(name, served) for served in registry.every for name in served.names]
    return json_response({"object": "list", "data": cards})


def _card(name: str, served: Served) -> dict:
    permission = {"id": f"modelperm-{uuid.uuid4().hex[:16]}", "created": int(time.time())}
    return {
        "id": name,
        "object": "model",
        "created": served.created,
        "owned_by": "vllm",
        "root": served.path,
        "parent": served.parent,
        "max_model_len": served.model.max_length,
        "fingerprint": served.fingerprint,
        "permission": [permission | PERMISSION],
    }


def _find(name: str | None, request: Request) -> Served:
    registry = service(request).models
    try:
        return registry.find(name)
    except APIError as error:
        if error.status != 404:
            raise
        aliases = ", ".join(alias for served in registry.every for alias in served.names)
        message = f"The model `{name}` does not exist. Valid aliases: {aliases}."
        raise APIError(404, message, "model") from None


async def tokenize(body: TokenizeRequest, request: Request) -> Response:
    """Token ids of a text or a conversation."""
    served, shared = _find(body.model, request), service(request)
    if body.prompt is None:
        template = chat.choose(body, served, shared.options.trust_request_chat_template)
        (text,) = await chat.render([body.messages or []], template, body, served, shared)
        special = body.add_special_tokens
    else:
        text, special = body.prompt, body.add_special_tokens is not False
    tokenizer = served.model.tokenizer
    tokens = await shared.prepare(
        served, len(text), lambda: tokenizer([text], special_tokens=bool(special))[0].ids.tolist()
    )
    fast = tokenizer.fast
    answer = {
        "count": len(tokens),
        "max_model_len": served.model.max_length,
        "tokens": tokens,
        "token_strs": [fast.id_to_token(i) for i in tokens] if body.return_token_strs else None,
    }
    return json_response(answer)


@router.post("/detokenize", dependencies=[Depends(json_only)])
async def detokenize(body: DetokenizeRequest, request: Request) -> Response:
    """The text of token ids; ids out of the vocabulary are left out."""
    served = _find(body.model, request)
    fast = served.model.tokenizer.fast
    known = [token for token in body.tokens if token < 2**31]
    return json_response({"prompt": fast.decode(known, skip_special_tokens=False)})
