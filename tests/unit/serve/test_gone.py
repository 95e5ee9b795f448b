"""A client that goes away frees its place in the queue."""

import asyncio
import time
from collections.abc import Awaitable, Callable

import pytest
from starlette.types import Message

from serve.engine import Engine
from serve.gone import WATCH_AFTER_SECONDS, ClientWatch
from serve.jobs import Job

PATIENCE_SECONDS = 10.0


class Expiring:
    """An engine of which only `expire` is called."""

    def __init__(self) -> None:
        self.expired: list[Job] = []
        self.happened = asyncio.Event()

    def submit(self, job: Job) -> None:
        raise NotImplementedError

    def expire(self, job: Job) -> None:
        self.expired.append(job)
        self.happened.set()

    def healthy(self) -> bool:
        raise NotImplementedError

    def queued_texts(self) -> int:
        raise NotImplementedError

    def set_queue_texts(self, queue_texts: int) -> None:
        raise AssertionError(queue_texts)

    def close(self) -> None:
        raise NotImplementedError

    def join(self, timeout_seconds: float) -> None:
        raise NotImplementedError


class Client:
    """What the server hears from it after the body."""

    def __init__(self, *messages: Message) -> None:
        self.asked = 0
        self._messages = list(messages)

    async def receive(self) -> Message:
        self.asked += 1
        if not self._messages:
            await asyncio.Event().wait()
        return self._messages.pop(0)


JOB = Job(["a"], truncate=False, deadline=time.monotonic() + PATIENCE_SECONDS)
Watching = Callable[[Expiring, Client], Awaitable[None]]


def run(watching: Watching, *messages: Message) -> tuple[Expiring, Client]:
    async def scene() -> tuple[Expiring, Client]:
        engine, client = Expiring(), Client(*messages)
        await watching(engine, client)
        return engine, client

    return asyncio.run(scene())


def watch(engine: Engine, client: Client, left_seconds: float = PATIENCE_SECONDS) -> ClientWatch:
    return ClientWatch(engine, JOB, left_seconds, client.receive)


def test_a_client_that_leaves_gives_up_its_job() -> None:
    async def leave(engine: Expiring, client: Client) -> None:
        watching = watch(engine, client)
        await asyncio.wait_for(engine.happened.wait(), PATIENCE_SECONDS)
        assert watching.gone
        watching.close()

    late_chunk = {"type": "http.request", "body": b"", "more_body": False}
    engine, client = run(leave, late_chunk, {"type": "http.disconnect"})
    assert (engine.expired, client.asked) == ([JOB], 2)


@pytest.mark.parametrize("left_seconds", [0.0, WATCH_AFTER_SECONDS / 2, WATCH_AFTER_SECONDS * 3])
def test_a_job_expires_at_its_deadline(left_seconds: float) -> None:
    async def wait(engine: Expiring, client: Client) -> None:
        watching = watch(engine, client, left_seconds)
        await asyncio.wait_for(engine.happened.wait(), PATIENCE_SECONDS)
        assert not watching.gone
        watching.close()

    assert run(wait)[0].expired == [JOB]


def test_a_quick_answer_asks_the_client_nothing() -> None:
    async def answer(engine: Expiring, client: Client) -> None:
        watch(engine, client).close()
        await asyncio.sleep(2 * WATCH_AFTER_SECONDS)

    engine, client = run(answer, {"type": "http.disconnect"})
    assert (engine.expired, client.asked) == ([], 0)


def test_a_watch_that_is_closed_hears_no_more() -> None:
    async def answer_late(engine: Expiring, client: Client) -> None:
        watching = watch(engine, client)
        while not client.asked:
            await asyncio.sleep(WATCH_AFTER_SECONDS)
        watching.close()
        await asyncio.sleep(0)

    engine, client = run(answer_late)
    assert (engine.expired, client.asked) == ([], 1)
