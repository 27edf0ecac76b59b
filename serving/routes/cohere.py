"""POST /v2/embed (Cohere)."""

from types import SimpleNamespace
from typing import Any

import numpy as np
from fastapi import APIRouter, Request, Response

from serving import chat, encoding, media
from serving.errors import APIError, refusing
from serving.job import Job
from serving.models import Served
from serving.routes.common import serves, service, size_of
from serving.routes.route import JsonRoute
from serving.schemas import CohereEmbedRequest, CohereInput, Message
from serving.service import Service, timings

router = APIRouter(route_class=JsonRoute)


def _able(served: Served) -> bool:
    return served.embedding_task == "embed"


@router.post("/v2/embed", dependencies=serves(_able))
async def embed(body: CohereEmbedRequest, request: Request) -> Response:
    """Embed texts as float, int8, uint8, binary, ubinary or base64."""
    shared = service(request)
    served = shared.models.find(body.model, _able)
    prompts = await _prompts(body, served, shared)
    sees = served.model.processor is not None  # no chat template writes its inputs
    options = _truncation(body) | {"add_special_tokens": sees or not body.inputs}
    # The instruction of a conversation is its first message, or has a place in the model's words.
    prompt = "" if body.inputs and not served.model.conversation else None

    def prepare():
        from jaxpool.offline import prepare
        from jaxpool.tasks.pooling_params import PoolingParams

        task = served.model.select(_tasks(body), body.input_type)
        params = PoolingParams(dimensions=body.output_dimension)
        made = prepare(
            served.model,
            task,
            prompts,
            params,
            options,
            prompt=prompt,
            input_type=body.input_type,
        )
        return task, made

    task, requests = await shared.prepare(served, size_of(prompts), prepare, media.seen(prompts))
    _check_length(body, requests)
    _check_bits(body, served, requests[0].dimensions)
    job = await shared.compute(served, task, requests, body.priority, request)
    return encoding.json_response(_answer(body, request, job), 200, timings(job))


PRECISIONS = {"float": "float32", "base64": "float32"}  # the other types bear the name of theirs


def _tasks(body: CohereEmbedRequest) -> str | list[str]:
    """The name of the task, or of one for each precision: all of them come from one forward."""
    kinds = body.embedding_types or ["float"]
    names = sorted({f"embed:{PRECISIONS.get(kind, kind)}" for kind in kinds})
    return names if len(names) > 1 else names[0]


async def _prompts(body: CohereEmbedRequest, served: Served, shared: Service) -> list:
    """Pictures, or texts as they are; inputs of parts as the chat template writes them."""
    if body.images is not None:
        return media.pictures(body.images, served)
    if body.inputs and served.model.processor:
        return [media.prompt(one.parts, served) for one in body.inputs]
    if any(part.type != "text" for i in body.inputs or () for part in i.content):
        raise APIError(400, f"{served.name} is not a multimodal model")
    if not body.inputs:
        return body.texts or []
    options = SimpleNamespace(
        chat_template=None,
        add_generation_prompt=False,
        continue_final_message=False,
        chat_template_kwargs=None,
    )
    template = chat.choose(options, served, trust=False)
    head = _head(body.input_type, served)
    users = [Message(role="user", content=_joined(one)) for one in body.inputs]
    asked = [[*head, user] for user in users]
    cut = _truncation(body) | {"add_special_tokens": False}
    return await chat.prompts(asked, template, options, served, shared, cut)


def _head(input_type: str | None, served: Served) -> list[Message]:
    """The instruction of an input type as the first message of a conversation."""
    from jaxpool.text.instructions import instruction

    if input_type is None:
        return []
    with refusing():
        text = instruction(served.model, served.model.task("embed"), None, None, input_type)
    return [Message(role="system", content=text)] if text else []


def _joined(one: CohereInput) -> str:
    return "\n".join(part.text or "" for part in one.content)


def _truncation(body: CohereEmbedRequest) -> dict[str, Any]:
    if body.truncate == "NONE":
        return {}
    side = {"truncation_side": "left"} if body.truncate == "START" else {}
    return {"truncate_prompt_tokens": -1 if body.max_tokens is None else body.max_tokens} | side


def _check_length(body: CohereEmbedRequest, requests: list) -> None:
    if body.truncate != "NONE" or body.max_tokens is None:
        return
    longest = max(len(one.ids) for one in requests)
    if longest > body.max_tokens:
        raise APIError(
            400,
            f"Input of {longest} tokens exceeds max_tokens={body.max_tokens} with truncate=NONE. "
            "Set truncate to END or START to allow truncation.",
        )


def _check_bits(body: CohereEmbedRequest, served: Served, dimensions: int) -> None:
    width = min(dimensions, served.model.model_config.embedding_size)
    if width % 8 and {"binary", "ubinary"} & set(body.embedding_types or ()):
        raise APIError(400, f"binary embeddings need a multiple of 8 dimensions, not {width}")


def _answer(body: CohereEmbedRequest, request: Request, job: Job) -> dict:
    answer = {
        "id": f"embd-{request.scope['state']['id']}",
        "embeddings": {kind: _vectors(kind, job) for kind in body.embedding_types or ["float"]},
        "meta": {
            "api_version": {"version": "2"},
            "billed_units": _billed(job),
        },
        "response_type": "embeddings_by_type",
    }
    return answer | ({"texts": body.texts} if body.texts else {})


def _billed(job: Job) -> dict[str, int]:
    """The tokens of a request: all of them are of images where it has one."""
    seen = any(request.sees for request in job.requests)
    return {"input_tokens": 0 if seen else job.tokens, "image_tokens": job.tokens if seen else 0}


def _vectors(kind: str, job: Job) -> list[np.ndarray | str]:
    """The vectors of a job as one of the types it was asked for."""
    if isinstance(job.task, tuple):
        precisions = [task.precision for task in job.task]
        place = precisions.index(PRECISIONS.get(kind, kind))
        found = [parts[place] for parts in job.results]
    else:
        found = job.results
    if kind == "base64":
        return [encoding.to_base64(vector, "float32", "little") for vector in found]
    return [np.ascontiguousarray(vector) for vector in found]
