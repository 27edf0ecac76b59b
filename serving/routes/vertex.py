"""Vertex AI's custom containers: its predict and health routes, named by the environment.

https://cloud.google.com/vertex-ai/docs/predictions/custom-container-requirements
"""

import asyncio
import os
from collections.abc import Mapping
from typing import Any

import orjson
from fastapi import APIRouter, Request, Response
from pydantic import BaseModel

from serving import encoding
from serving.errors import APIError
from serving.routes import invocations
from serving.routes.route import JsonRoute
from serving.routes.utility import health


class PredictRequest(BaseModel):
    """POST to AIP_PREDICT_ROUTE: `instances` are bodies of the other routes without a batch."""

    instances: list[dict[str, Any]]
    parameters: dict[str, Any] | None = None


async def predict(body: PredictRequest, request: Request) -> Response:
    """What /invocations answers to each instance, in their order."""
    if not body.instances:
        raise APIError(400, "instances must not be empty", "instances")
    bodies = [orjson.dumps((body.parameters or {}) | one) for one in body.instances]
    answers = await asyncio.gather(*(invocations.dispatch(one, request) for one in bodies))
    predictions = [orjson.Fragment(answer.body) for answer in answers]
    return encoding.json_response({"predictions": predictions})


def router(environment: Mapping[str, str] = os.environ) -> APIRouter:
    """The routes that Vertex AI's environment asks for; none elsewhere."""
    made = APIRouter(route_class=JsonRoute)
    if route := environment.get("AIP_PREDICT_ROUTE"):
        made.add_api_route(route, predict, methods=["POST"])  # a LocalEndpoint names no type
    if route := environment.get("AIP_HEALTH_ROUTE"):
        made.add_api_route(route, health, methods=["GET"])
    return made
