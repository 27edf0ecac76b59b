"""Where an adapter lies among those of a model, and how long it stays there."""

import asyncio
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace

from serving.errors import unknown_model


class Slot:
    """The place of an adapter in the stacks of its model; number 0 is the model without one.

    It is kept for the jobs that use it until they have ended: another adapter in it would change
    their results. All of this is for the event loop alone.
    """

    def __init__(self, number: int = 0):
        self.number = number
        self._users, self.closed, self._idle = 0, False, asyncio.Event()

    @contextmanager
    def used(self, name: str, requests: Sequence) -> Iterator[Sequence]:
        """Requests with this adapter, which stays; 404 if it has left since `name` was found."""
        if self.closed:
            raise unknown_model(name)
        self._users += 1
        try:
            number = self.number
            yield [replace(one, adapter=number) for one in requests] if number else requests
        finally:
            self._users -= 1
            if not self._users:
                self._idle.set()

    async def close(self) -> None:
        """Let no further job use the adapter, and wait for those that do."""
        self.closed = True
        if self._users:
            self._idle.clear()
            await self._idle.wait()
