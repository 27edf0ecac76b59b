"""Loading and unloading LoRA adapters while a server runs."""

import asyncio
import logging
from pathlib import Path

from serving.config import LoraModule
from serving.errors import APIError, InvalidUserInput
from serving.models import Registry, Served

log = logging.getLogger("jaxpool.serving")


async def load(registry: Registry, module: LoraModule) -> None:
    """Load an adapter of a folder while others compute."""
    base = registry.find(module.base_model_name)
    if base.parent:
        raise APIError(400, f"`{base.name}` is an adapter: it has none of its own")
    async with registry.changing:
        if any(module.name in served.names for served in registry.every):
            message = f"The lora adapter '{module.name}' has already been loaded."
            raise InvalidUserInput(400, message)
        registry.adapters[module.name] = await asyncio.to_thread(_of_folder, base, module)


def _of_folder(base: Served, module: LoraModule) -> Served:
    """A model with the adapter of a local folder: for a client nothing is downloaded."""
    try:
        if not Path(module.path).is_dir():
            raise FileNotFoundError(module.path)
        return base.adapted(module)
    except FileNotFoundError:
        message = f"Loading lora {module.name} failed: No adapter found for {module.path}"
        raise APIError(404, message) from None
    except Exception as error:  # whatever there may be wrong with the files that a client names
        raise APIError(400, f"Loading lora {module.name} failed: {error}") from error


async def unload(registry: Registry, name: str) -> None:
    """Take no more requests for an adapter; free its slot when those that are there have ended."""
    async with registry.changing:
        if name not in registry.adapters:
            raise APIError(404, f"The lora adapter '{name}' cannot be found.")
        served = registry.adapters[name]
        await served.slot.close()
        served.loras.remove(name)
        del registry.adapters[name]
    log.info("adapter %r unloaded", name)
