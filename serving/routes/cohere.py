"""POST /v2/embed (Cohere)."""

from types import SimpleNamespace
from typing import Any

import numpy as np
from fastapi import APIRouter, Request, Response

from serving import chat, encoding
from serving.errors import APIError
from serving.models import Served
from serving.queue import Job
from serving.routes.common import serves, service, size_of
from serving.routes.route import JsonRoute
from serving.schemas import CohereEmbedRequest, CohereInput, Message
from serving.service import timings

router = APIRouter(route_class=JsonRoute)


def _able(served: Served) -> bool:
    return served.embedding_task == "embed"


@router.post("/v2/embed", dependencies=serves(_able))
async def embed(body: CohereEmbedRequest, request: Request) -> Response:
    """Embed texts as float, int8, uint8, binary, ubinary or base64."""
    shared = service(request)
    served = shared.models.find(body.model, _able)
    prompts, special = _prompts(body, served)
    options = _truncation(body) | {"add_special_tokens": special}

    def prepare():
        from jaxpool.tasks.pooling_params import PoolingParams
        from jaxpool.text.prepare import prepare

        task = served.model.select(_tasks(body))
        params = PoolingParams(dimensions=body.output_dimension)
        return task, prepare(served.model, task, prompts, params, options)

    task, requests = await shared.prepare(served, size_of(prompts), prepare)
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


def _prompts(body: CohereEmbedRequest, served: Served) -> tuple[list[str], bool]:
    """Texts with the instruction of their input type, and whether special tokens are added."""
    if body.images or any(part.type != "text" for i in body.inputs or () for part in i.content):
        raise APIError(400, f"{served.name} is not a multimodal model")
    prefix = _instruction(body.input_type, served)
    template = served.chat_template or served.model.tokenizer.config.get("chat_template")
    if body.inputs:
        texts = [_joined(one) for one in body.inputs]
        if not template:
            raise APIError(400, chat.NO_TEMPLATE)
    else:
        texts = body.texts or []
    if not template:
        return [prefix + text for text in texts], True
    return [_chat(prefix, text, template, served) for text in texts], False


def _joined(one: CohereInput) -> str:
    return "\n".join(part.text or "" for part in one.content)


def _chat(prefix: str, text: str, template: str, served: Served) -> str:
    messages = [Message(role="system", content=prefix)] if prefix else []
    messages.append(Message(role="user", content=text))
    options = SimpleNamespace(
        add_generation_prompt=False, continue_final_message=False, chat_template_kwargs=None
    )
    return chat.render(messages, template, options, served)


def _instruction(name: str | None, served: Served) -> str:
    """The text that an input type puts before each input."""
    if name is None:
        return ""
    config = served.model.checkpoint.config
    known = getattr(config, "task_instructions", None) or served.model.prompts
    if name in known:
        return known[name]
    if not known:
        reason = "This model does not define any input_type task instructions."
    else:
        reason = f"Supported values: {', '.join(sorted(known))}"
    raise APIError(400, f"Unsupported input_type {name!r}. {reason}")


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
            "billed_units": {"input_tokens": job.tokens, "image_tokens": 0},
        },
        "response_type": "embeddings_by_type",
    }
    return answer | ({"texts": body.texts} if body.texts else {})


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
