"""The routes of Ollama's clients: /api/embed, /api/embeddings, /api/tags, /api/version."""

from datetime import UTC, datetime
from typing import Any

import numpy as np
from fastapi import APIRouter, Request, Response
from pydantic import BaseModel

from serving import encoding
from serving.errors import APIError
from serving.job import Job
from serving.models import Served
from serving.routes import embeddings
from serving.routes.common import serves, service
from serving.routes.route import JsonRoute
from serving.schemas import EmbeddingRequest, Int
from serving.service import timings

router = APIRouter(route_class=JsonRoute)


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


async def _run(body: EmbedRequest, request: Request) -> tuple[Served, Job]:
    registry = service(request).models
    # Ollama's clients add a tag that says which variant they want; here there is one.
    names = [name for served in registry.every for name in served.names]
    name = body.model if body.model in names else body.model.removesuffix(":latest")
    served = registry.find(name, _able)
    asked = EmbeddingRequest.model_construct(
        input=body.input,
        dimensions=body.dimensions,
        truncate_prompt_tokens=-1 if body.truncate else None,
    )
    return served, await embeddings.run(asked, request, served, "embed")


@router.post("/api/embed", dependencies=serves(_able))
async def embed(body: EmbedRequest, request: Request) -> Response:
    """A normalized vector a text; durations are nanoseconds."""
    if body.input == []:
        raise APIError(400, "input must not be empty", "input")
    served, job = await _run(body, request)
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
    _, job = await _run(EmbedRequest(model=body.model, input=body.prompt), request)
    vector = np.ascontiguousarray(job.results[0], np.float32)
    return encoding.json_response({"embedding": vector}, 200, timings(job))


@router.get("/api/tags")
async def tags(request: Request) -> Response:
    """The models that are served."""
    registry = service(request).models
    registry.find(None)
    models = [_card(name, served) for served in registry.every for name in served.names]
    return encoding.json_response({"models": models})


def _card(name: str, served: Served) -> dict:
    config = served.model.model_config
    details = {
        "format": "safetensors",
        "family": getattr(config.hf_config, "model_type", ""),
        "quantization_level": served.model.engine.options.quantization or config.dtype,
    }
    return {
        "name": name,
        "model": name,
        "modified_at": datetime.fromtimestamp(served.created, UTC).isoformat(),
        "size": 0,
        "digest": served.fingerprint or "",
        "details": details,
    }
