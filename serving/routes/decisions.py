"""POST /v1/systemone: typed questions about a state, and the probability of every option."""

import math
import time
from functools import partial
from typing import Any

from fastapi import APIRouter, Request, Response
from pydantic import BaseModel, ConfigDict, Field

from serving import encoding
from serving.models import Served
from serving.routes.common import rid, run_parts, serves, service
from serving.routes.route import JsonRoute
from serving.schemas import Int
from serving.service import timings

router = APIRouter(route_class=JsonRoute)


class DecisionRequest(BaseModel):
    """POST /v1/systemone; a field that is not known would change the answers, and is refused."""

    model_config = ConfigDict(extra="forbid")

    model: str | None = None
    state: Any = Field(description="what the questions are about: a text or JSON")
    questions: dict[str, dict[str, Any]] = Field(min_length=1, max_length=64)
    assets: dict[str, Any] | None = Field(default=None, description="images, for models that see")
    request_id: str | None = None
    keep_alive: Any = Field(default=None, description="of Ollama's client, and without effect")
    priority: Int = 0


def _able(served: Served) -> bool:
    return "decide" in served.model.tasks


@router.post("/v1/systemone", dependencies=serves(_able))
async def decide(body: DecisionRequest, request: Request) -> Response:
    """The answer to each question, by its name."""
    from jaxpool.scoring.decisions import prepare_decisions

    shared = service(request)
    served = shared.models.find(body.model, _able)
    asked = body.model_dump(include={"state", "questions", "assets"})
    # Rendering waits for another process: no size is small.
    scoring = await shared.prepare(
        served, math.inf, partial(prepare_decisions, served.model, [asked])
    )
    jobs, (answers,) = await run_parts(scoring, served, body.priority, request)
    answer = {
        "id": f"decision-{rid(body, request)}",
        "object": "structured_decision",
        "created": int(time.time()),
        "model": served.name,
        "answers": answers,
        "usage": {"input_tokens": scoring.tokens, "output_tokens": 0},
    }
    return encoding.json_response(answer, 200, timings(*jobs))
