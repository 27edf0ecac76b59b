"""POST /score and /rerank, under all their paths."""

import math
from functools import partial
from typing import Any, NamedTuple

import numpy as np
from fastapi import APIRouter, Request, Response

from serving import encoding, media
from serving.errors import APIError
from serving.models import Served
from serving.routes.common import (
    check_common,
    frame,
    rid,
    run_parts,
    serves,
    service,
    size_of,
    tokenization,
    usage,
)
from serving.routes.route import JsonRoute
from serving.schemas import Parts, RerankRequest, ScoreRequest, Scoring
from serving.service import timings

router = APIRouter(route_class=JsonRoute)


def _able(served: Served) -> Any:
    return served.scoring_task


class Scored(NamedTuple):
    """The scores of a body, and what they took."""

    served: Served
    scores: np.ndarray
    usage: dict
    headers: dict


async def scores(body: Scoring, request: Request, left: Any, right: Any, full: bool) -> Scored:
    """The score of each pair of texts."""
    shared = service(request)
    check_common(body, shared.options)
    served = shared.models.find(body.model, _able)
    first, second = (_texts(side, served, body.mm_processor_kwargs) for side in (left, right))
    size: float = size_of(first) + size_of(second)
    seen = media.seen(first) or media.seen(second)
    if served.chat_template or served.model.score_template:
        size = math.inf  # rendering waits for another process
    prepare = partial(_prepare, body, served, first, second)
    scoring = await shared.prepare(served, size, prepare, seen)
    jobs, scores = await run_parts(scoring, served, body.priority, request)
    return Scored(served, scores, usage(scoring.tokens, full), timings(*jobs))


def _texts(side: Any, served: Served, processing: Any) -> list:
    """The texts of a side, and prompts of pictures where content parts have them."""
    texts = side if isinstance(side, list) else [side]
    if served.model.processor is None and any(isinstance(text, Parts) for text in texts):
        name = served.model.model_config.architectures[0]
        raise APIError(400, f"MultiModalParam is not supported for {name}")
    read = partial(media.prompt, served=served, processing=processing)
    return [read(text.content) if isinstance(text, Parts) else text for text in texts]


def _shown(document: Any) -> dict:
    """A document as it came."""
    if isinstance(document, str):
        return {"text": document, "multi_modal": None}
    return {"text": None, "multi_modal": document.content}


def _prepare(body: Scoring, served: Served, first: list, second: list) -> Any:
    from jaxpool.scoring.pairs import prepare_scores
    from jaxpool.tasks.pooling_params import PoolingParams

    kwargs = dict(body.chat_template_kwargs or {})
    if body.instruction is not None:
        kwargs.setdefault("instruction", body.instruction)
    extra = {
        "max_tokens_per_query": body.max_tokens_per_query,
        "max_tokens_per_doc": body.max_tokens_per_doc,
        "chat_template_kwargs": kwargs,
        "weights": body.weights,
    }
    params = PoolingParams(use_activation=body.use_activation, extra_kwargs=extra)
    options = tokenization(body)
    return prepare_scores(served.model, first, second, params, options, served.chat_template)


@router.post("/score", dependencies=serves(_able))
@router.post("/v1/score", dependencies=serves(_able))
async def score(body: ScoreRequest, request: Request) -> Response:
    """Scores of pairs of texts, 1:1, 1:N or N:N."""
    scored = await scores(body, request, *body.sides(), full=True)
    data = [
        {"index": index, "object": "score", "score": value}
        for index, value in enumerate(scored.scores)
    ]
    answer = frame("score", rid(body, request), scored.served, data, scored.usage)
    return encoding.json_response(answer, 200, scored.headers)


@router.post("/v1/rerank", dependencies=serves(_able))
@router.post("/v2/rerank", dependencies=serves(_able))
async def rerank(body: RerankRequest, request: Request) -> Response:
    """Documents by their score with a query, the best first (Jina, Cohere)."""
    scored = await scores(body, request, body.query, body.documents, full=False)
    documents = body.documents if isinstance(body.documents, list) else [body.documents]
    order = np.argsort(-scored.scores, kind="stable")[: body.top_n or None]
    answer = {
        "id": f"score-{rid(body, request)}",
        "model": scored.served.name,
        "usage": scored.usage,
        "results": [
            {
                "index": int(i),
                "document": _shown(documents[i]),
                "relevance_score": scored.scores[i],
            }
            for i in order
        ],
    }
    return encoding.json_response(answer, 200, scored.headers)
