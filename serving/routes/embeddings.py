"""POST /v1/embeddings, /pooling and /classify."""

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
from fastapi import APIRouter, Request, Response

from serving import encoding, media
from serving.errors import APIError
from serving.job import Job
from serving.models import Served
from serving.routes.common import (
    frame,
    is_chat,
    prompts_of,
    rid,
    run_parts,
    serves,
    service,
    size_of,
    usage,
)
from serving.routes.common import tokenization as options_of
from serving.routes.route import JsonRoute
from serving.schemas import ClassifyRequest, EmbeddingRequest, PoolingRequest, Prompts
from serving.service import timings

router = APIRouter(route_class=JsonRoute)


async def run(body: Prompts, request: Request, served: Served, name: str) -> Job:
    """Compute the prompts of a body with a task."""
    shared = service(request)
    prompts, special = await prompts_of(body, served, shared)
    options = options_of(body) | {"add_special_tokens": special}

    def prepare():
        from jaxpool.offline import prepare

        task = served.model.select(name, body.input_type)
        made = prepare(
            served.model,
            task,
            prompts,
            params_of(body),
            options,
            prompt="" if _unprompted(body, served.model) else None,
            prompt_name=body.prompt_name,
            input_type=body.input_type,
        )
        return task, made

    task, requests = await shared.prepare(served, size_of(prompts), prepare, media.seen(prompts))
    return await shared.compute(served, task, requests, body.priority, request)


def _unprompted(body: Prompts, model: Any) -> bool:
    """Whether no prompt goes before the texts of a body.

    A chat template has written them, or they are queries or documents (clients of NIM always say
    which) of a model that does not tell these apart.
    """
    if body.prompt_name is not None or body.input_type is None:
        return body.prompt_name is None and is_chat(body)
    from jaxpool.tasks.input_types import meaning
    from jaxpool.text.late_interaction import SIDES, tells_sides

    return meaning(body.input_type) in SIDES and not (model.prompts or tells_sides(model))


def params_of(body: Prompts) -> Any:
    """The pooling parameters of a body."""
    from jaxpool.tasks.pooling_params import PoolingParams

    late = getattr(body, "late_chunking_params", None)
    return PoolingParams(
        task=body.task if isinstance(body, EmbeddingRequest) else None,
        use_activation=body.use_activation,
        dimensions=getattr(body, "dimensions", None),
        late_chunking_params=late.model_dump() if late else None,
    )


def vectors(kind: str, key: str, body: Any, request: Request, served: Served, job: Job) -> Response:
    """Vectors or matrices in the encoding a client asks for."""
    name = rid(body, request)
    if body.encoding_format.startswith("bytes") and not isinstance(job.task, tuple):
        whole = frame(kind, name, served, [], {})
        head = {field: whole[field] for field in ("id", "created", "model")}
        used = usage(job.tokens, full=False)
        return encoding.bytes_response(job.results, body, head, used, timings(job))
    label = {"embd": "embedding"}.get(kind, kind)
    data = [
        {"index": index, "object": label, key: _shown(result, body, served, job.task)}
        | _late(job.requests[index])
        for index, result in enumerate(job.results)
    ]
    answer = frame(kind, name, served, data, usage(job.tokens))
    return encoding.json_response(answer, 200, timings(job))


def _shown(result: Any, body: Any, served: Served, task: Any) -> Any:
    """A result as JSON: numbers or base64, sparse weights by token, several tasks by name."""
    if isinstance(task, tuple):
        pairs = zip(task, result, strict=True)
        return {one.name: _shown(part, body, served, one) for one, part in pairs}
    if task.name == "sparse" and body.encoding_format == "float":
        return sparse(result, served.model.tokenizer.fast)
    return encoding.encode(result, body)


def sparse(weights: np.ndarray, tokenizer: Any) -> list[dict]:
    """The weights that are not zero, the greatest first, with their tokens."""
    ids = np.flatnonzero(weights)
    order = ids[np.argsort(-weights[ids], kind="stable")]
    return [
        {"token": tokenizer.id_to_token(int(i)), "id": int(i), "weight": weights[i]} for i in order
    ]


def _late(one: Any) -> dict:
    """Where the late chunks of a request lie, if it asked for them."""
    return {} if one.chunks is None else {"late_chunking": asdict(one.chunks)}


@router.post("/v1/embeddings", dependencies=serves(lambda served: served.embedding_task))
async def embeddings(body: EmbeddingRequest, request: Request) -> Response:
    """Embed texts, token ids or conversations (OpenAI)."""
    served = service(request).models.find(body.model, lambda served: served.embedding_task)
    job = await run(body, request, served, served.embedding_task or "embed")
    return vectors("embd", "embedding", body, request, served, job)


@router.post("/pooling", dependencies=serves(lambda served: True))
async def pooling(body: PoolingRequest, request: Request) -> Response:
    """Any task of the model: vectors, matrices, probabilities, sparse weights."""
    if body.dimensions is not None:
        raise APIError(400, "dimensions is currently not supported", "dimensions")
    served = service(request).models.find(body.model)
    check_task(body.task, served)
    job = await run(body, request, served, body.task or served.default_task)
    return vectors("pooling", "data", body, request, served, job)


def check_task(name: str | None, served: Served) -> None:
    """Refuse a task that the model cannot do, or was not started for."""
    model = served.model
    for one in name.split("&") if name else ():
        if one not in model.tasks:
            raise APIError(
                400, f"Unsupported task: {one!r} Supported tasks: {sorted(model.tasks)}", "task"
            )
        if model.pooler_config.task not in (None, one):
            raise APIError(
                400,
                f"Try switching the model's pooling_task via --pooler-config.task {one}.",
                "task",
            )


@router.post("/classify", dependencies=serves(lambda served: served.classifies))
async def classify(body: ClassifyRequest, request: Request) -> Response:
    """Class probabilities and the label of the greatest; of models of spans, entities of labels."""
    served = service(request).models.find(body.model, lambda s: s.classifies)
    if served.spans:
        return await entities(body, request, served)
    _none_of(body, served, ("threshold", "nested"), "a model of spans (GLiNER)")
    if body.labels is None:
        job = await run(body, request, served, "classify")
        results, names = job.results, getattr(served.model.checkpoint.config, "id2label", None)
    else:
        job, results = await labelled(body, request, served)
        names = dict(enumerate(body.labels))
    data = []
    for index, probs in enumerate(results):
        label = (names or {}).get(int(probs.argmax()))
        one = {"index": index, "label": label, "probs": probs, "num_classes": len(probs)}
        data.append(one)
    answer = frame("classify", rid(body, request), served, data, usage(job.tokens))
    return encoding.json_response(answer, 200, timings(job))


async def labelled(body: ClassifyRequest, request: Request, served: Served) -> tuple[Job, Any]:
    """What is computed for classes that a body names, and their probabilities for each text."""
    shared = service(request)
    prompts, special = await prompts_of(body, served, shared)
    options = options_of(body) | {"add_special_tokens": special}

    def prepare():
        from jaxpool.scoring.zero_shot import Labels, prepare_labels

        labels = Labels(body.labels or (), body.hypothesis_template, body.multi_label)
        return prepare_labels(served.model, prompts, labels, params_of(body), options)

    size = (size_of(prompts) + 1) * len(body.labels or ())
    scoring = await shared.prepare(served, size, prepare)
    (job,), results = await run_parts(scoring, served, body.priority, request)
    return job, results


async def entities(body: ClassifyRequest, request: Request, served: Served) -> Response:
    """The entities of each text, of the kinds that a body names, by their places."""
    others = ("hypothesis_template", "multi_label", "truncate_prompt_tokens", "use_activation")
    _none_of(body, served, others, "a classifier")
    shared = service(request)
    prompts, _ = await prompts_of(body, served, shared)

    def prepare():
        from jaxpool.scoring.spans import prepare_spans

        return prepare_spans(served.model, prompts, body.labels or (), body.threshold, body.nested)

    scoring = await shared.prepare(served, size_of(prompts), prepare)
    (job,), found = await run_parts(scoring, served, body.priority, request)
    data = [{"index": i, "entities": [asdict(e) for e in own]} for i, own in enumerate(found)]
    answer = frame("classify", rid(body, request), served, data, usage(job.tokens))
    return encoding.json_response(answer, 200, timings(job))


def _none_of(body: ClassifyRequest, served: Served, fields: Sequence[str], wanted: str) -> None:
    """Refuse fields that a model has no use for."""
    if given := [name for name in fields if getattr(body, name) != _default(name)]:
        message = f"{given[0]} is a field for {wanted}, which {served.name} is not"
        raise APIError(400, message, given[0])


def _default(name: str) -> Any:
    return ClassifyRequest.model_fields[name].default
