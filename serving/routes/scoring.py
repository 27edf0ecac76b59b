"""POST /score and /rerank, under all their paths."""

import math
from typing import Any, NamedTuple

import numpy as np
from fastapi import APIRouter, Request, Response

from serving import encoding
from serving.errors import APIError
from serving.job import Job
from serving.models import Served
from serving.routes.common import check_common, frame, rid, serves, service, tokenization, usage
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
    check_common(body, service(request).options)
    shared = service(request)
    served = shared.models.find(body.model, _able)
    first, second = _texts(left, served), _texts(right, served)
    size: float = sum(map(len, first)) + sum(map(len, second))
    if served.chat_template or served.model.score_template:
        size = math.inf  # rendering waits for another process
    scoring = await shared.prepare(served, size, lambda: _prepare(body, served, first, second))
    jobs: list[Job] = []
    results: list = []
    for part in scoring.parts:
        given = part.after(results)
        jobs.append(await shared.compute(served, part.task, given, body.priority, request))
        results += jobs[-1].results
    scores = scoring.combine(results)
    return Scored(served, scores, usage(scoring.tokens, full), timings(*jobs))


def _texts(side: Any, served: Served) -> list[str]:
    texts = side if isinstance(side, list) else [side]
    if any(isinstance(text, Parts) for text in texts):
        name = served.model.model_config.architectures[0]
        raise APIError(400, f"MultiModalParam is not supported for {name}")
    return texts


def _prepare(body: Scoring, served: Served, first: list[str], second: list[str]) -> Any:
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
                "document": {"text": documents[i], "multi_modal": None},
                "relevance_score": scored.scores[i],
            }
            for i in order
        ],
    }
    return encoding.json_response(answer, 200, scored.headers)
