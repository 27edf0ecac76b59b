"""POST / as `huggingface_hub.InferenceClient` sends it (and Text Embeddings Inference answers)."""

from collections.abc import Mapping
from typing import Annotated, Any

import numpy as np
from fastapi import APIRouter, Request, Response
from pydantic import BaseModel, Field

from serving import encoding
from serving.job import Job
from serving.models import Served
from serving.routes import embeddings, scoring
from serving.routes.common import serves, service
from serving.routes.route import JsonRoute
from serving.routes.tei import Sentences
from serving.schemas import ClassifyRequest, EmbeddingRequest, Hypotheses, ScoreRequest
from serving.service import timings

router = APIRouter(route_class=JsonRoute)


class HubParameters(Hypotheses):
    """Options of a classification."""

    candidate_labels: list[str] | None = None
    top_k: Annotated[int, Field(ge=1, le=2**63 - 1)] | None = None


class HubRequest(BaseModel):
    """POST / (huggingface_hub)."""

    inputs: str | list[str] | Sentences
    normalize: bool | None = None
    truncate: bool | None = None
    prompt_name: str | None = None
    parameters: HubParameters = HubParameters()


def _able(served: Served) -> Any:
    return served.embedding_task or served.default_task == "classify"


@router.post("/", dependencies=serves(_able))
async def hub(body: HubRequest, request: Request) -> Response:
    """Vectors of texts, classes of texts, or similarities of sentences with one."""
    if isinstance(body.inputs, Sentences):
        return await _similar(body.inputs, request)
    if body.parameters.candidate_labels is not None:
        return await _zero_shot(body, request)
    served = service(request).models.find(None, _able)
    task = "classify" if served.default_task == "classify" else served.embedding_task or "embed"
    asked = EmbeddingRequest(
        input=body.inputs,
        use_activation=body.normalize,
        prompt_name=body.prompt_name,
        truncate_prompt_tokens=-1 if body.truncate else None,
    )
    job = await embeddings.run(asked, request, served, task)
    shown = _classes(job, served, body) if task == "classify" else _vectors(job)
    return encoding.json_response(shown, 200, timings(job))


async def _similar(inputs: Sentences, request: Request) -> Response:
    asked = ScoreRequest(text_1=inputs.source_sentence, text_2=[*inputs.sentences])
    scored = await scoring.scores(asked, request, *asked.sides(), full=False)
    return encoding.json_response(scored.scores, 200, scored.headers)


async def _zero_shot(body: HubRequest, request: Request) -> Response:
    """The labels of each text, the likeliest first; of a single text by themselves."""
    labels = body.parameters.candidate_labels or []
    asked = ClassifyRequest(
        input=body.inputs,
        labels=labels,
        truncate_prompt_tokens=-1 if body.truncate else None,
        **body.parameters.model_dump(include={"hypothesis_template", "multi_label"}),
    )
    served = service(request).models.find(None, lambda s: "classify" in s.model.tasks)
    job, results = await embeddings.labelled(asked, request, served)
    shown = [_ordered(probs, dict(enumerate(labels)), body) for probs in results]
    single = isinstance(body.inputs, str)
    return encoding.json_response(shown[0] if single else shown, 200, timings(job))


def _vectors(job: Job) -> list[np.ndarray]:
    return [np.ascontiguousarray(vector, np.float32) for vector in job.results]


def _classes(job: Job, served: Served, body: HubRequest) -> list[list[dict]]:
    """Each text's classes, the likeliest first."""
    names = getattr(served.model.checkpoint.config, "id2label", None) or {}
    return [_ordered(probs, names, body) for probs in job.results]


def _ordered(probs: np.ndarray, names: Mapping[int, str], body: HubRequest) -> list[dict]:
    order = np.argsort(-probs, kind="stable")[: body.parameters.top_k]
    return [{"label": names.get(int(i), str(i)), "score": probs[i]} for i in order]
