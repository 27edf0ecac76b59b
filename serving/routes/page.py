"""GET /: a page to try the models in a browser, and what it needs beside the other routes."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from fastapi import APIRouter, HTTPException, Request, Response

from jaxpool.scoring.zero_shot import reads_labels, takes_labels
from jaxpool.text.late_interaction import tells_sides
from serving import media
from serving.encoding import json_response
from serving.models import Served
from serving.routes.common import prompts_of, serves, service, size_of
from serving.routes.common import tokenization as options_of
from serving.routes.embeddings import check_task
from serving.routes.route import JsonRoute
from serving.schemas import PoolingRequest

FOLDER = Path(__file__).parents[1] / "page"
KINDS = {".html": "text/html", ".css": "text/css", ".js": "text/javascript"}
FILES = {path.name: path for path in FOLDER.iterdir() if path.suffix in KINDS}
# Scripts and requests of this server alone; colours of cells are style attributes.
POLICY = (
    "default-src 'none'; script-src 'self'; connect-src 'self'; img-src data:; "
    "style-src 'self' 'unsafe-inline'; form-action 'none'; base-uri 'none'; frame-ancestors 'none'"
)
STATIC = {"/", *(f"/page/{name}" for name in FILES)}  # what a browser loads without a key

router = APIRouter(route_class=JsonRoute, include_in_schema=False)


@router.get("/")
async def index() -> Response:
    """The page."""
    return await file("index.html")


@router.get("/page/models")
async def models(request: Request) -> Response:
    """What each model can do, which is what the page has tabs for."""
    registry = service(request).models
    registry.find(None)
    return json_response([_shown(served) for served in registry.every])


def _shown(served: Served) -> dict:
    model = served.model
    labels = {} if reads_labels(model) else model.model_config.id2label or {}
    return {
        "name": served.name,
        "tasks": list(model.tasks),
        "labels": {str(i): name for i, name in labels.items()},
        "takes_labels": takes_labels(model),
        "spans": served.spans,
        "scores": served.scoring_task,
        "sides": tells_sides(model),
        "texts": not model.arch.patches,
        "images": model.processor is not None,
    }


@router.get("/page/{name}")
async def file(name: str) -> Response:
    """A file of the page."""
    if name not in FILES:
        raise HTTPException(404)
    path = FILES[name]
    headers = {"content-security-policy": POLICY, "cache-control": "no-cache"}
    return Response(path.read_bytes(), headers=headers, media_type=KINDS[path.suffix])


@router.post("/page/tokens", dependencies=serves(lambda served: True))
async def tokens(body: PoolingRequest, request: Request) -> Response:
    """The tokens whose rows /pooling gives for the same body of one text or picture.

    offsets: the characters of each, of plain texts; grid: rows and columns of the vectors of a
    picture, which have no names.
    """
    shared = service(request)
    served = shared.models.find(body.model)
    check_task(body.task, served)
    task = served.model.select(body.task or served.default_task, body.input_type)
    prompts, special = await prompts_of(body, served, shared)

    def prepare():
        from jaxpool.offline import prepare

        return prepare(
            served.model,
            task,
            prompts,
            tokenization_kwargs=options_of(body) | {"add_special_tokens": special},
            offsets=served.model.conversation is None,
            input_type=body.input_type,
        )

    one, *_ = await shared.prepare(served, size_of(prompts), prepare, media.seen(prompts))
    return json_response(_tokens(one, served.model.tokenizer.fast.id_to_token))


def _tokens(one: Any, name: Callable[[int], str]) -> dict:
    keep = one.epilogues[0].keep
    kept = range(len(one.ids)) if keep is None else keep
    seen = one.soft >= 0 if one.pictures else np.zeros(len(one.ids), bool)
    offsets = [] if one.offsets is None else one.offsets.tolist()
    unplaced = [[0, 0]] * (len(one.ids) - len(offsets))  # tokens that are not of the text
    places = [*offsets, *unplaced]
    return {
        "tokens": [None if seen[i] else name(int(one.ids[i])) for i in kept],
        "offsets": [places[i] for i in kept],
        "grid": _grid(one.pictures[0]) if len(one.pictures or ()) == 1 else None,
    }


def _grid(picture: Any) -> tuple[int, int]:
    return picture.rows // picture.merge, picture.cols // picture.merge
