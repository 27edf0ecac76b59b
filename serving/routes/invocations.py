"""POST /invocations (SageMaker): the body decides which route answers."""

from collections.abc import Awaitable, Callable

from fastapi import APIRouter, Depends, Request, Response
from fastapi.exceptions import RequestValidationError
from pydantic import ValidationError

from serving.errors import APIError, NotServed
from serving.routes import embeddings, scoring
from serving.routes.common import json_only, service
from serving.routes.route import parsed
from serving.schemas import (
    ClassifyRequest,
    Common,
    EmbeddingRequest,
    PoolingRequest,
    RerankRequest,
    ScoreRequest,
)

router = APIRouter()
HANDLERS: tuple[tuple[type[Common], Callable[..., Awaitable], Callable], ...] = (
    (EmbeddingRequest, embeddings.embeddings, lambda served: served.embedding_task == "embed"),
    (ClassifyRequest, embeddings.classify, lambda served: served.classifies),
    (RerankRequest, scoring.rerank, lambda served: served.scoring_task),
    (ScoreRequest, scoring.score, lambda served: served.scoring_task),
    (PoolingRequest, embeddings.pooling, lambda served: True),
)


@router.post("/invocations", dependencies=[Depends(json_only)])
async def invocations(request: Request) -> Response:
    """Answer as the first route does whose body this is and whose task the model has."""
    return await dispatch(await request.body(), request)


async def dispatch(content: bytes, request: Request) -> Response:
    """The answer of the first route whose body this is and whose task the model has."""
    try:
        fields = parsed(content)
    except (ValueError, RecursionError):
        fields = None
    registry = service(request).models
    for schema, handler, able in HANDLERS:
        try:
            body = schema.model_validate(fields)
            registry.find(body.model, able)
        except (ValidationError, RequestValidationError, NotServed):
            continue
        return await handler(body, request)
    expected = [schema.__name__ for schema, _, _ in HANDLERS]
    raise APIError(400, f"Cannot find suitable handler for request. Expected one of: {expected}")
