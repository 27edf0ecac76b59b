"""POST /v1/load_lora_adapter and /v1/unload_lora_adapter, for those whom the operator trusts."""

from fastapi import APIRouter, Depends, Request, Response
from fastapi.responses import PlainTextResponse
from pydantic import BaseModel

from serving.config import LoraModule
from serving.errors import InvalidUserInput
from serving.routes.common import json_only, service
from serving.routes.route import JsonRoute

LOAD, UNLOAD = "/v1/load_lora_adapter", "/v1/unload_lora_adapter"

router = APIRouter(route_class=JsonRoute)


class LoadRequest(BaseModel):
    """POST /v1/load_lora_adapter: a name, and a folder of the server."""

    lora_name: str
    lora_path: str
    base_model_name: str | None = None


class UnloadRequest(BaseModel):
    """POST /v1/unload_lora_adapter."""

    lora_name: str


@router.post(LOAD, dependencies=[Depends(json_only)])
async def load(body: LoadRequest, request: Request) -> Response:
    """Load an adapter, which requests then choose by its name."""
    if not body.lora_name or not body.lora_path:
        raise InvalidUserInput(400, "Both 'lora_name' and 'lora_path' must be provided.")
    module = LoraModule(
        name=body.lora_name, path=body.lora_path, base_model_name=body.base_model_name
    )
    await service(request).devices.load_adapter(module)
    return PlainTextResponse(f"Success: LoRA adapter '{body.lora_name}' added successfully.")


@router.post(UNLOAD, dependencies=[Depends(json_only)])
async def unload(body: UnloadRequest, request: Request) -> Response:
    """Unload an adapter once the requests that chose it are answered."""
    if not body.lora_name:
        message = "'lora_name' needs to be provided to unload a LoRA adapter."
        raise InvalidUserInput(400, message)
    await service(request).devices.unload_adapter(body.lora_name)
    return PlainTextResponse(f"Success: LoRA adapter '{body.lora_name}' removed successfully.")
