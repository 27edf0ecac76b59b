"""POST /rerank and /tokenize: paths of two kinds of clients, told apart by a field of the body.

`texts` and `inputs` are Text Embeddings Inference's names for what others call `documents` and
`prompt`.
"""

from typing import Any, ClassVar

import numpy as np
from fastapi import APIRouter, Depends, Request, Response
from pydantic import BaseModel

from serving import encoding
from serving.models import Served
from serving.routes import scoring, utility
from serving.routes.common import json_only, serves, service
from serving.routes.route import JsonRoute
from serving.routes.tei import Truncated
from serving.schemas import RerankRequest, ScoreRequest, TokenizeRequest

router = APIRouter(route_class=JsonRoute)


class RerankTexts(Truncated):
    """POST /rerank as Text Embeddings Inference's clients send it."""

    mark: ClassVar = "texts"

    query: str
    texts: list[str]
    raw_scores: bool = False
    return_text: bool = False


class TokenizeInputs(BaseModel):
    """POST /tokenize as Text Embeddings Inference's clients send it."""

    mark: ClassVar = "inputs"

    inputs: str | list[str]
    add_special_tokens: bool = True
    prompt_name: str | None = None


@router.post("/rerank", dependencies=serves(lambda served: served.scoring_task))
async def rerank(body: RerankRequest | RerankTexts, request: Request) -> Response:
    """Documents by their score with a query, the best first."""
    if isinstance(body, RerankRequest):
        return await scoring.rerank(body, request)
    texts: list[Any] = body.texts
    asked = ScoreRequest.model_construct(
        text_1=body.query,
        text_2=texts,
        use_activation=False if body.raw_scores else None,
        **body.cut(),
    )
    scored = await scoring.scores(asked, request, *asked.sides(), full=False)
    shown: list[dict] = [
        {"index": int(i), "score": scored.scores[i]}
        | ({"text": texts[i]} if body.return_text else {})
        for i in np.argsort(-scored.scores, kind="stable")
    ]
    return encoding.json_response(shown, 200, scored.headers)


@router.post("/tokenize", dependencies=[Depends(json_only)])
async def tokenize(body: TokenizeRequest | TokenizeInputs, request: Request) -> Response:
    """The tokens of a text, a conversation, or several texts."""
    if isinstance(body, TokenizeRequest):
        return await utility.tokenize(body, request)
    shared = service(request)
    served = shared.models.find(None)
    texts = [body.inputs] if isinstance(body.inputs, str) else body.inputs
    size = sum(map(len, texts))
    shown = await shared.prepare(served, size, lambda: _tokens(texts, body, served))
    return encoding.json_response(shown)


def _tokens(texts: list[str], body: TokenizeInputs, served: Served) -> list[list[dict]]:
    """Each token of each text, and the characters (of the prompt and the text) it stands for."""
    from jaxpool.text.instructions import instruction

    model = served.model
    prompt = instruction(model, model.task(), None, body.prompt_name, None)
    texts = [prompt + text for text in texts]
    encoded = model.tokenizer(texts, special_tokens=body.add_special_tokens, offsets=True)
    name = model.tokenizer.fast.id_to_token
    return [
        [
            _token(int(i), name(int(i)), text, *map(int, place))
            for i, place in zip(tokens.ids, tokens.offsets, strict=True)
        ]
        for text, tokens in zip(texts, encoded, strict=True)
    ]


def _token(number: int, name: str, text: str, start: int, stop: int) -> dict:
    special = start == stop
    return {
        "id": number,
        "text": name if special else text[start:stop],
        "special": special,
        "start": None if special else start,
        "stop": None if special else stop,
    }
