"""The routes of Ollama's clients: /api/embed, /api/embeddings, and what they ask of models."""

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import numpy as np
from fastapi import APIRouter, Depends, Request, Response
from pydantic import BaseModel

from serving import encoding
from serving.errors import APIError, respond, sanitize
from serving.job import Job
from serving.models import Served
from serving.routes import embeddings
from serving.routes.common import json_only, serves, service
from serving.routes.route import JsonRoute
from serving.routes.utility import version
from serving.schemas import EmbeddingRequest, Int
from serving.service import timings


def _refusal(status: int, message: str, *_: Any) -> Response:
    """An error as Ollama's clients read it: they show `error` as it is."""
    return encoding.json_response({"error": sanitize(message)}, status)


class OllamaRoute(JsonRoute):
    """The route of a JSON body whose errors are Ollama's."""

    def handler(self) -> Callable[[bytes, Request], Any] | None:
        """The endpoint behind its checks and the validation of its body."""
        handle = super().handler()
        if handle is None:
            return None

        async def answer(content: bytes, request: Request) -> Response:
            try:
                return await handle(content, request)
            except Exception as error:
                return respond(error, _refusal)

        return answer


router = APIRouter(route_class=OllamaRoute)

LATEST = ":latest"


def _able(served: Served) -> bool:
    return served.embedding_task == "embed"


class EmbedRequest(BaseModel):
    """POST /api/embed; `options` and `keep_alive` are about generators and change nothing here."""

    model: str
    input: str | list[str]
    truncate: bool = True
    dimensions: Int | None = None
    options: dict[str, Any] | None = None
    keep_alive: str | float | None = None


class EmbeddingsRequest(BaseModel):
    """POST /api/embeddings, the older route of one text."""

    model: str
    prompt: str
    options: dict[str, Any] | None = None
    keep_alive: str | float | None = None


class ShowRequest(BaseModel):
    """POST /api/show."""

    model: str


def _find(name: str, request: Request, able: Callable[[Served], Any] = lambda _: True) -> Served:
    """The model of a name, whose tag says which variant is wanted: here there is one."""
    registry = service(request).models
    names = [name for served in registry.every for name in served.names]
    return registry.find(name if name in names else name.removesuffix(LATEST), able)


async def _run(body: EmbedRequest, request: Request) -> Job:
    asked = EmbeddingRequest.model_construct(
        input=body.input,
        dimensions=body.dimensions,
        truncate_prompt_tokens=-1 if body.truncate else None,
    )
    served = _find(body.model, request, _able)
    return await embeddings.run(asked, request, served, "embed")


@router.post("/api/embed", dependencies=serves(_able))
async def embed(body: EmbedRequest, request: Request) -> Response:
    """A normalized vector a text; durations are nanoseconds."""
    if body.input == []:
        raise APIError(400, "input must not be empty", "input")
    job = await _run(body, request)
    answer = {
        "model": body.model,
        "embeddings": [np.ascontiguousarray(one, np.float32) for one in job.results],
        "total_duration": round((job.times.finished - job.times.arrived) * 1e9),
        "load_duration": 0,
        "prompt_eval_count": job.tokens,
    }
    return encoding.json_response(answer, 200, timings(job))


@router.post("/api/embeddings", dependencies=serves(_able))
async def one(body: EmbeddingsRequest, request: Request) -> Response:
    """The vector of one text."""
    job = await _run(EmbedRequest(model=body.model, input=body.prompt), request)
    vector = np.ascontiguousarray(job.results[0], np.float32)
    return encoding.json_response({"embedding": vector}, 200, timings(job))


@router.post("/api/show", dependencies=[Depends(json_only)])
async def show(body: ShowRequest, request: Request) -> Response:
    """What is known of a model."""
    served = _find(body.model, request)
    model = served.model
    card, able = _card(served.name, served), ["embedding"] if _able(served) else []
    kind = card["details"]["family"]
    facts = {
        "general.architecture": kind,
        f"{kind}.context_length": model.max_length,
        f"{kind}.embedding_length": model.model_config.embedding_size,
    }
    answer = {name: card[name] for name in ("modified_at", "details")}
    return encoding.json_response(answer | {"model_info": facts, "capabilities": able})


router.add_api_route("/api/version", version, methods=["GET"])


@router.get("/api/ps")
@router.get("/api/tags")
async def tags(request: Request) -> Response:
    """The models that are served, all of which are in memory."""
    registry = service(request).models
    registry.find(None)
    models = [_card(name, served) for served in registry.every for name in served.names]
    return encoding.json_response({"models": models})


def _card(name: str, served: Served) -> dict:
    name = name if ":" in name.rpartition("/")[2] else name + LATEST  # clients look for a tag
    config = served.model.model_config
    details = {
        "format": "safetensors",
        "family": getattr(config.hf_config, "model_type", ""),
        "quantization_level": served.model.options.quantization or config.dtype,
    }
    return {
        "name": name,
        "model": name,
        "modified_at": datetime.fromtimestamp(served.created, UTC).isoformat(),
        "size": 0,
        "digest": served.fingerprint or "",
        "details": details,
    }
