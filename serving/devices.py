"""Where jobs are computed, as the routes see it: by this process, or by others of the server."""

from collections.abc import Sequence
from typing import Any, Protocol

from serving.config import LoraModule
from serving.job import Job
from serving.metrics import Metrics
from serving.models import Registry, Served


class Devices(Protocol):
    """What a server asks of its devices. `local.Local` has them in this process, `remote.Remote`
    in processes of their own."""

    models: Registry
    metrics: Metrics

    def start(self) -> None:
        """Begin to load the models; `models` says how far it is."""

    async def settled(self) -> None:
        """Wait until the server may listen: most often at once, while models are being loaded."""

    async def stop(self) -> None:
        """End, with what is still being computed."""

    def check(self, served: Served) -> None:
        """Raise `Overloaded` if a job that arrives now would be refused."""

    async def compute(
        self, served: Served, task: Any, requests: Sequence, priority: int, deadline: float
    ) -> Job:
        """The finished job of some requests; cancelling the caller takes back what is queued."""

    async def probe(self) -> None:
        """Pass through the devices: raises, or hangs, if they do."""

    async def load_adapter(self, module: LoraModule) -> None:
        """Load an adapter of a folder, for all requests that come later."""

    async def unload_adapter(self, name: str) -> None:
        """Forget an adapter when the requests that chose it have ended."""

    async def answering(self, active: int) -> int:
        """Requests being answered by the whole server, of which `active` by this process."""

    async def page(self) -> bytes:
        """The metrics of the whole server."""
