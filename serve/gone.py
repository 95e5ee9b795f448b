"""Notices that a client has gone away while its texts wait, and frees their place in the queue."""

import asyncio

from starlette.types import Receive

from serve.engine import Engine
from serve.jobs import Job

# Most requests are answered sooner: they pay a timer, which they need anyway for their deadline,
# and no task that waits for the client.
WATCH_AFTER_SECONDS = 0.02


class ClientWatch:
    """Expires a job at its deadline, or once its client is gone. `receive` must have given the
    whole body. Close it when the job is answered."""

    def __init__(self, engine: Engine, job: Job, left_seconds: float, receive: Receive) -> None:
        self.gone = False
        self._engine = engine
        self._job = job
        self._receive = receive
        self._loop = asyncio.get_running_loop()
        self._deadline = self._loop.time() + left_seconds
        self._task: asyncio.Task[None] | None = None
        if left_seconds <= WATCH_AFTER_SECONDS:
            self._timer = self._loop.call_later(left_seconds, engine.expire, job)
        else:
            self._timer = self._loop.call_later(WATCH_AFTER_SECONDS, self._start)

    def close(self) -> None:
        """Stop watching."""
        self._timer.cancel()
        if self._task is not None:
            self._task.cancel()

    def _start(self) -> None:
        self._timer = self._loop.call_at(self._deadline, self._engine.expire, self._job)
        self._task = self._loop.create_task(self._watch())

    async def _watch(self) -> None:
        while (await self._receive())["type"] != "http.disconnect":
            continue
        self.gone = True
        self._engine.expire(self._job)
