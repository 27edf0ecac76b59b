"""POST /invocations (SageMaker): the body decides which route answers."""

from collections.abc import Awaitable, Callable

from fastapi import APIRouter, Depends, Request, Response
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, ValidationError

from serving.errors import APIError, NotServed
from serving.routes import embeddings, scoring, shared, tei
from serving.routes.common import json_only, service
from serving.routes.route import parsed
from serving.schemas import (
    ClassifyRequest,
    EmbeddingRequest,
    PoolingRequest,
    RerankRequest,
    ScoreRequest,
)

router = APIRouter()
HANDLERS: tuple[tuple[type[BaseModel], Callable[..., Awaitable], Callable], ...] = (
    (EmbeddingRequest, embeddings.embeddings, lambda served: served.embedding_task == "embed"),
    (ClassifyRequest, embeddings.classify, lambda served: served.classifies),
    (RerankRequest, scoring.rerank, lambda served: served.scoring_task),
    (ScoreRequest, scoring.score, lambda served: served.scoring_task),
    (PoolingRequest, embeddings.pooling, lambda served: True),
    # Containers of Text Embeddings Inference take its own bodies here.
    (tei.EmbedRequest, tei.embed, lambda served: served.embedding_task == "embed"),
    (tei.PredictRequest, tei.predict, lambda served: "classify" in served.model.tasks),
    (shared.RerankTexts, shared.rerank, lambda served: served.scoring_task),
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
            registry.find(getattr(body, "model", None), able)
        except (ValidationError, RequestValidationError, NotServed):
            continue
        return await handler(body, request)
    expected = [schema.__name__ for schema, _, _ in HANDLERS]
    raise APIError(400, f"Cannot find suitable handler for request. Expected one of: {expected}")
