"""What answers the routes of texts: a body becomes texts, the texts are answered, the answers
become a body. Dialects differ in the shapes of request and reply alone.
"""

import asyncio
from collections.abc import Mapping
from typing import Any

from starlette.types import Receive, Scope

from edgeloop.bundle import Bundle
from serve.asking import Asking, Outcome
from serve.capture.writer import Capture
from serve.dialects.dialect import MAX_BATCH_TEXTS, Dialect
from serve.gone import ClientWatch
from serve.metrics import ServeMetrics
from serve.slot import Slot
from serve.tally import Tallies, Tally
from serve.wire import AsgiExchange, read_body, send_body


class Predict:
    """Answers with the deployment that is in the slot when the request is admitted.
    `max_batch_texts`: of one request; a request larger than the queue could never be answered."""

    def __init__(
        self,
        slot: Slot,
        metrics: ServeMetrics,
        queue_texts: int,
        capture: Capture | None = None,
    ) -> None:
        self.capture = capture
        self.slot = slot
        self.metrics = metrics
        self._tallies = Tallies()
        self.set_queue_texts(queue_texts)

    def set_queue_texts(self, queue_texts: int) -> None:
        """How many texts may wait from now on."""
        self.max_batch_texts = min(MAX_BATCH_TEXTS, queue_texts)

    def tally(self, bundle: Bundle) -> Tally:
        """What was answered with a bundle."""
        return self._tallies.of(bundle.digest)

    async def __call__(
        self,
        dialect: Dialect[Any],
        names: Mapping[str, str],
        scope: Scope,
        receive: Receive,
        exchange: AsgiExchange,
    ) -> None:
        """Raises Refused, wire.ClientGone."""
        # First: a client that still sends hears no refusal.
        body = await read_body(scope, receive)
        outcome: asyncio.Future[Outcome] = asyncio.get_running_loop().create_future()
        asking = Asking(self, dialect, exchange, outcome.set_result)
        asking.begin(names, scope, body)
        watch = ClientWatch(receive, asking.client_gone)
        try:
            answered = await outcome
        finally:
            watch.close()
        if isinstance(answered, Exception):
            raise answered
        reply, headers = answered
        await send_body(exchange.send, reply.status, reply.body, headers, reply.content_type)
