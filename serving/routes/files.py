"""/v1/files and /v1/batches, as OpenAI's clients use them, over a folder of the server."""

import asyncio
from typing import Any, Literal

from fastapi import APIRouter, Depends, Request, Response
from fastapi.responses import FileResponse
from pydantic import BaseModel
from starlette.datastructures import UploadFile

from serving.batches import Batches
from serving.encoding import json_response
from serving.errors import APIError
from serving.routes.common import json_only, service
from serving.routes.route import JsonRoute

MOST = 100  # documents of a list that is asked for without a limit
UPLOAD = "/v1/files"  # its body is read by the route
BATCHES = "/v1/batches"

router = APIRouter(route_class=JsonRoute)


class BatchRequest(BaseModel):
    """POST /v1/batches."""

    input_file_id: str
    endpoint: str
    completion_window: Literal["24h"]
    metadata: dict[str, str] | None = None


def _batches(request: Request) -> Batches:
    batches = service(request).batches
    assert batches is not None  # these routes are there with it
    return batches


@router.post(UPLOAD)
async def upload(request: Request) -> Response:
    """Keep a file of requests (multipart: `file`, and `purpose` batch)."""
    async with request.form(max_files=1, max_fields=10) as form:
        file, purpose = form.get("file"), form.get("purpose")
        if not isinstance(file, UploadFile):
            raise APIError(400, "The form has no file", "file")
        if purpose != "batch":
            raise APIError(400, f"purpose must be batch, got {purpose!r}", "purpose")
        store, name = _batches(request).store, file.filename or "upload.jsonl"
        document = await asyncio.to_thread(store.add, file.file, name[:255], purpose)
    return json_response(document)


@router.get(UPLOAD)
async def files(
    request: Request, purpose: str | None = None, limit: int = MOST, after: str | None = None
) -> Response:
    """The files, the newest first."""
    found = await asyncio.to_thread(_batches(request).store.all, "file")
    return _page([one for one in found if purpose in (None, one["purpose"])], limit, after)


@router.get("/v1/files/{name}")
async def file(name: str, request: Request) -> Response:
    """What is known of a file."""
    return json_response(_batches(request).store.get("file", name))


@router.get("/v1/files/{name}/content")
async def content(name: str, request: Request) -> Response:
    """The bytes of a file."""
    store = _batches(request).store
    store.get("file", name)
    return FileResponse(store.path(name, "data"), media_type="application/octet-stream")


@router.delete("/v1/files/{name}")
async def delete(name: str, request: Request) -> Response:
    """Forget a file."""
    store = _batches(request).store
    store.get("file", name)
    store.remove(name)
    return json_response({"id": name, "object": "file", "deleted": True})


@router.post(BATCHES, dependencies=[Depends(json_only)])
async def create(body: BatchRequest, request: Request) -> Response:
    """Answer the lines of a file."""
    given = body.input_file_id, body.endpoint, body.completion_window, body.metadata
    return json_response(_batches(request).add(*given))


@router.get(BATCHES)
async def batches(request: Request, limit: int = MOST, after: str | None = None) -> Response:
    """The batches, the newest first."""
    known = _batches(request)
    found = await asyncio.to_thread(known.store.all, "batch")
    return _page([known.get(one["id"]) for one in found], limit, after)


@router.get("/v1/batches/{name}")
async def batch(name: str, request: Request) -> Response:
    """How far a batch is."""
    return json_response(_batches(request).get(name))


@router.post("/v1/batches/{name}/cancel")
async def cancel(name: str, request: Request) -> Response:
    """End a batch; what is answered by then is kept."""
    return json_response(_batches(request).cancel(name))


def _page(found: list[dict[str, Any]], limit: int, after: str | None) -> Response:
    names = [one["id"] for one in found]
    start = names.index(after) + 1 if after in names else 0
    shown = found[start : start + max(limit, 1)]
    answer = {
        "object": "list",
        "data": shown,
        "first_id": shown[0]["id"] if shown else None,
        "last_id": shown[-1]["id"] if shown else None,
        "has_more": start + len(shown) < len(found),
    }
    return json_response(answer)
