"""Notices that a client has gone away while its texts wait."""

import asyncio
from collections.abc import Callable

from starlette.types import Receive

# Most requests are answered sooner: they pay a timer, and no task that waits for the client.
WATCH_AFTER_SECONDS = 0.02


class ClientWatch:
    """Calls `on_gone` once the client is gone. `receive` must have given the whole body. Close it
    when the request is answered."""

    def __init__(self, receive: Receive, on_gone: Callable[[], None]) -> None:
        self._receive = receive
        self._on_gone = on_gone
        self._loop = asyncio.get_running_loop()
        self._task: asyncio.Task[None] | None = None
        self._timer = self._loop.call_later(WATCH_AFTER_SECONDS, self._start)

    def close(self) -> None:
        """Stop watching."""
        self._timer.cancel()
        if self._task is not None:
            self._task.cancel()

    def _start(self) -> None:
        self._task = self._loop.create_task(self._watch())

    async def _watch(self) -> None:
        while (await self._receive())["type"] != "http.disconnect":
            continue
        self._on_gone()
