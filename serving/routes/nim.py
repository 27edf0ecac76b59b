"""POST /v1/ranking, as NVIDIA's NIM rerankers answer it."""

from typing import Literal

import numpy as np
from fastapi import APIRouter, Request, Response
from pydantic import BaseModel, ConfigDict, model_validator

from serving import encoding
from serving.contents import MediaInput
from serving.routes import scoring
from serving.routes.common import serves, service
from serving.routes.route import JsonRoute
from serving.schemas import Parts, ScoreRequest

router = APIRouter(route_class=JsonRoute)


class Query(BaseModel):
    """What passages are ranked for."""

    text: str


class Passage(MediaInput):
    """A text, an image (a data: URL), or both."""

    model_config = ConfigDict(extra="ignore")

    @model_validator(mode="after")
    def _is_something(self):
        if self.text is None and self.image is None:
            raise ValueError("a passage has a text, an image, or both")
        return self

    @property
    def document(self) -> str | Parts:
        """The same as a side of a pair."""
        return (self.text or "") if self.image is None else Parts(content=self.parts)


class RankingRequest(BaseModel):
    """POST /v1/ranking; what is too long is cut only where `truncate` is END."""

    model: str | None = None
    query: Query
    passages: list[Passage]
    truncate: Literal["NONE", "END"] = "NONE"


@router.post("/v1/ranking", dependencies=serves(lambda served: served.scoring_task))
async def ranking(body: RankingRequest, request: Request) -> Response:
    """Passages by their logit with a query, the best first."""
    served = service(request).models.find(body.model, lambda served: served.scoring_task)
    asked = ScoreRequest.model_construct(
        model=body.model,
        text_1=body.query.text,
        text_2=[passage.document for passage in body.passages],
        truncate_prompt_tokens=-1 if body.truncate == "END" else None,
        use_activation=False if served.scoring_task == "classify" else None,
    )
    scored = await scoring.scores(asked, request, *asked.sides(), full=False)
    order = np.argsort(-scored.scores, kind="stable")
    rankings = [{"index": int(i), "logit": scored.scores[i]} for i in order]
    answer = {"rankings": rankings, "usage": scored.usage}
    return encoding.json_response(answer, 200, scored.headers)
