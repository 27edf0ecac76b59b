"""GET /: a page to try the models in a browser, and what it needs beside the other routes."""

from pathlib import Path

from fastapi import APIRouter, HTTPException, Request, Response

from jaxpool.text.late_interaction import tells_sides
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
    labels = getattr(served.model.checkpoint.config, "id2label", None) or {}
    return {
        "name": served.name,
        "tasks": list(served.model.tasks),
        "labels": {str(i): name for i, name in labels.items()},
        "images": served.model.processor is not None,
        "scores": served.scoring_task,
        "sides": tells_sides(served.model),
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
    """The tokens whose rows /pooling gives for the same body of one text, and their characters."""
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
            offsets=True,
            input_type=body.input_type,
        )

    one, *_ = await shared.prepare(served, size_of(prompts), prepare)
    keep = one.epilogues[0].keep
    kept = range(len(one.ids)) if keep is None else keep
    name, offsets = served.model.tokenizer.fast.id_to_token, one.offsets.tolist()
    unplaced = [[0, 0]] * (len(one.ids) - len(offsets))  # tokens that are not of the text
    places = [*offsets, *unplaced]
    answer = {"tokens": [name(int(one.ids[i])) for i in kept], "offsets": [places[i] for i in kept]}
    return json_response(answer)
