"""A client that goes away frees its place in the queue."""

import asyncio
from collections.abc import Awaitable, Callable

from starlette.types import Message

from serve.gone import WATCH_AFTER_SECONDS, ClientWatch

PATIENCE_SECONDS = 10.0


class Client:
    """What the server hears from it after the body."""

    def __init__(self, *messages: Message) -> None:
        self.asked = 0
        self.missed = asyncio.Event()
        self._messages = list(messages)

    async def receive(self) -> Message:
        self.asked += 1
        if not self._messages:
            await asyncio.Event().wait()
        return self._messages.pop(0)

    def watch(self) -> ClientWatch:
        return ClientWatch(self.receive, self.missed.set)


def run(watching: Callable[[Client], Awaitable[None]], *messages: Message) -> Client:
    async def scene() -> Client:
        client = Client(*messages)
        await watching(client)
        return client

    return asyncio.run(scene())


def test_a_client_that_leaves_is_missed() -> None:
    async def leave(client: Client) -> None:
        watching = client.watch()
        await asyncio.wait_for(client.missed.wait(), PATIENCE_SECONDS)
        watching.close()

    late_chunk = {"type": "http.request", "body": b"", "more_body": False}
    assert run(leave, late_chunk, {"type": "http.disconnect"}).asked == 2


def test_a_quick_answer_asks_the_client_nothing() -> None:
    async def answer(client: Client) -> None:
        client.watch().close()
        await asyncio.sleep(2 * WATCH_AFTER_SECONDS)

    client = run(answer, {"type": "http.disconnect"})
    assert client.asked == 0
    assert not client.missed.is_set()


def test_a_watch_that_is_closed_hears_no_more() -> None:
    async def answer_late(client: Client) -> None:
        watching = client.watch()
        while not client.asked:
            await asyncio.sleep(WATCH_AFTER_SECONDS)
        watching.close()
        await asyncio.sleep(0)

    client = run(answer_late)
    assert client.asked == 1
    assert not client.missed.is_set()
