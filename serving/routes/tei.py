"""The routes of Text Embeddings Inference: /embed, /embed_all, /embed_sparse, /predict, ..."""

from functools import cache
from importlib.metadata import version
from typing import Annotated, Any, Literal

import numpy as np
from fastapi import APIRouter, Depends, Request, Response
from pydantic import BaseModel, Field

from serving import encoding
from serving.errors import APIError
from serving.job import Job
from serving.models import Served
from serving.routes import embeddings, scoring
from serving.routes.common import json_only, serves, service
from serving.routes.route import JsonRoute
from serving.schemas import Int, PoolingRequest, Prompts, ScoreRequest, Token
from serving.service import timings

router = APIRouter(route_class=JsonRoute)

Pair = Annotated[list[str], Field(min_length=2, max_length=2)]
Row = Annotated[list[str], Field(min_length=1, max_length=2)]
Direction = Literal["left", "right", "Left", "Right"]


class Truncated(BaseModel):
    """How a text that is too long is cut: from its end, unless a request says otherwise."""

    truncate: bool | None = None
    truncation_direction: Direction = "right"
    prompt_name: str | None = None

    def cut(self) -> dict[str, Any]:
        """The same in the words of vLLM."""
        if self.truncate is False:
            return {}
        side = {"truncation_side": "left"} if self.truncation_direction.lower() == "left" else {}
        return {"truncate_prompt_tokens": -1} | side


class Inputs(Truncated):
    """Texts or token ids."""

    inputs: str | list[Token] | list[str] | list[list[Token]]


class EmbedRequest(Inputs):
    """POST /embed."""

    normalize: bool = True
    dimensions: Int | None = None


class PredictRequest(Truncated):
    """POST /predict: a text, a pair of texts, or a list of lists of either."""

    inputs: str | Pair | Annotated[list[Row], Field(min_length=1)]
    raw_scores: bool = False


class Sentences(BaseModel):
    """One sentence, and those it is compared with."""

    source_sentence: str
    sentences: list[str]


class SimilarityRequest(BaseModel):
    """POST /similarity."""

    inputs: Sentences
    parameters: Truncated = Truncated()


class DecodeRequest(BaseModel):
    """POST /decode."""

    ids: list[Token] | list[list[Token]]
    skip_special_tokens: bool = True


async def _run(
    body: Inputs, request: Request, served: Served, name: str, activate: bool | None, **fields: Any
) -> Job:
    asked = PoolingRequest.model_construct(
        input=body.inputs,
        use_activation=activate,
        prompt_name=body.prompt_name,
        **body.cut(),
        **fields,
    )
    return await embeddings.run(asked, request, served, name)


@router.post("/embed", dependencies=serves(lambda served: "embed" in served.model.tasks))
async def embed(body: EmbedRequest, request: Request) -> Response:
    """A vector a text."""
    served = service(request).models.find(None, lambda s: "embed" in s.model.tasks)
    job = await _run(body, request, served, "embed", body.normalize, dimensions=body.dimensions)
    return encoding.json_response(_rows(job), 200, timings(job))


@router.post("/embed_all", dependencies=serves(lambda served: "token_embed" in served.model.tasks))
async def embed_all(body: Inputs, request: Request) -> Response:
    """A vector a token, not normalized."""
    served = service(request).models.find(None, lambda s: "token_embed" in s.model.tasks)
    job = await _run(body, request, served, "token_embed", False)
    return encoding.json_response(_rows(job), 200, timings(job))


@router.post("/embed_sparse", dependencies=serves(lambda served: "sparse" in served.model.tasks))
async def embed_sparse(body: Inputs, request: Request) -> Response:
    """The weights of the vocabulary that are not zero."""
    served = service(request).models.find(None, lambda s: "sparse" in s.model.tasks)
    job = await _run(body, request, served, "sparse", None)
    return encoding.json_response([_weights(one) for one in job.results], 200, timings(job))


@router.post("/predict", dependencies=serves(lambda served: "classify" in served.model.tasks))
async def predict(body: PredictRequest, request: Request) -> Response:
    """The classes of texts, the likeliest first; pairs are for cross-encoders."""
    served = service(request).models.find(None, lambda s: "classify" in s.model.tasks)
    single = isinstance(body.inputs, str) or isinstance(body.inputs[0], str)
    texts: list[list[str]] = [_row(one) for one in ([body.inputs] if single else body.inputs)]
    if len({len(row) for row in texts}) > 1:
        raise APIError(400, "inputs must be texts or pairs, not both", "inputs")
    pairs = len(texts[0]) == 2
    probs, headers = await (_of_pairs if pairs else _of_texts)(body, texts, request, served)
    shown = [_classes(one, served) for one in probs]
    return encoding.json_response(shown[0] if single else shown, 200, headers)


def _row(given: Any) -> list[str]:
    return [given] if isinstance(given, str) else given


async def _of_texts(body: PredictRequest, texts, request: Request, served: Served) -> tuple:
    asked = Prompts.model_construct(
        input=[text for (text,) in texts],
        use_activation=False if body.raw_scores else None,
        prompt_name=body.prompt_name,
        **body.cut(),
    )
    job = await embeddings.run(asked, request, served, "classify")
    return job.results, timings(job)


async def _of_pairs(body: PredictRequest, texts, request: Request, served: Served) -> tuple:
    if served.scoring_task != "classify":
        raise APIError(400, f"{served.name} does not read pairs of texts", "inputs")
    first: tuple[Any, ...]
    second: tuple[Any, ...]
    first, second = zip(*texts, strict=True)
    asked = ScoreRequest.model_construct(
        text_1=list(first),
        text_2=list(second),
        use_activation=False if body.raw_scores else None,
        **body.cut(),
    )
    scored = await scoring.scores(asked, request, *asked.sides(), full=False)
    return scored.scores[:, None], scored.headers


@router.post("/similarity", dependencies=serves(lambda served: served.embedding_task))
async def similarity(body: SimilarityRequest, request: Request) -> Response:
    """The similarity of sentences with one."""
    sentences: list[Any] = body.inputs.sentences
    asked = ScoreRequest.model_construct(
        text_1=body.inputs.source_sentence, text_2=sentences, **body.parameters.cut()
    )
    scored = await scoring.scores(asked, request, *asked.sides(), full=False)
    return encoding.json_response(scored.scores, 200, scored.headers)


@router.post("/decode", dependencies=[Depends(json_only)])
async def decode(body: DecodeRequest, request: Request) -> Response:
    """The texts of token ids."""
    fast = service(request).models.find(None).model.tokenizer.fast
    many: list[Any] = list(body.ids)
    if not many or isinstance(many[0], int):
        many = [many]
    known = [[token for token in ids if token < 2**31] for ids in many]
    texts = fast.decode_batch(known, skip_special_tokens=body.skip_special_tokens)
    return encoding.json_response(texts)


@router.get("/info")
async def info(request: Request) -> Response:
    """What is served, in the fields of Text Embeddings Inference."""
    shared = service(request)
    served = shared.models.find(None)
    model, options = served.model, shared.options
    facts = {
        "model_id": served.path,
        "model_sha": options.revision,
        "model_dtype": model.arch.dtype,
        "model_type": _kind(served),
        "max_input_length": model.max_length,
        "max_batch_tokens": served.budget,
        "max_batch_requests": None,
        "max_client_batch_size": None,
        "max_concurrent_requests": None,
        "auto_truncate": True,
        "version": _version(),
    }
    return encoding.json_response(facts)


@cache
def _version() -> str:
    return version("jaxpool")


def _kind(served: Served) -> dict[str, Any]:
    """The kind of a model and what belongs to it."""
    names = served.model.model_config.id2label or {}
    labels = {
        "id2label": {str(i): name for i, name in names.items()},
        "label2id": {name: i for i, name in names.items()},
    }
    if served.default_task != "classify":
        return {"embedding": {"pooling": served.model.pooler_config.seq_pooling_type or "mean"}}
    return {"reranker" if served.scoring_task == "classify" else "classifier": labels}


def _rows(job: Job) -> list[np.ndarray]:
    return [np.ascontiguousarray(one, np.float32) for one in job.results]


def _weights(weights: np.ndarray) -> list[dict]:
    return [{"index": int(i), "value": weights[i]} for i in np.flatnonzero(weights)]


def _classes(probs: np.ndarray, served: Served) -> list[dict]:
    names = served.model.model_config.id2label or {}
    order = np.argsort(-probs, kind="stable")
    return [{"score": probs[i], "label": names.get(int(i), str(i))} for i in order]
