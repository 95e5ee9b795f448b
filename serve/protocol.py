"""uvicorn's HTTP protocol with the limits that it lacks: time for a request to arrive and for an
answer to be taken, bytes and number of headers, connections at once.

A request that arrives in one piece, as nearly all do, costs no timer.
"""

import asyncio
import logging
import weakref
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any, cast

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from serve.corked import Corked
from serve.metrics import ServeMetrics
from serve.wire import DRAIN_BYTES

logger = logging.getLogger(__name__)

MAX_HEAD_BYTES = 64 * 1024
MAX_HEADERS = 128
# Requests that have arrived whole before the one that is being answered; uvicorn reads on.
MAX_PIPELINED = 128
# More than the largest body that is read to its end (wire.DRAIN_BYTES): chunks have their own size.
MAX_REQUEST_BYTES = 2 * DRAIN_BYTES
# At the limit of connections, one that has been idle for so long makes room for a new one.
IDLE_SECONDS = 1.0
WARNING_SECONDS = 1.0
# For the other side's goodbye of a TLS connection that we close.
SHUTDOWN_SECONDS = 2.0


class TooMany(Exception):
    """The request has more than MAX_HEADERS, or comes with more than MAX_PIPELINED before it."""


@dataclass(eq=False)
class Limits:
    """What all connections of a listener share. `idle`: connections without a request under way,
    by the time since when, oldest first; `setting_up`: accepted and not yet through their TLS
    handshake."""

    request_timeout_seconds: float
    max_connections: int
    metrics: ServeMetrics
    idle: "dict[LimitedProtocol, float]" = field(default_factory=dict)
    setting_up: "weakref.WeakSet[LimitedProtocol]" = field(default_factory=weakref.WeakSet)


class AtMostOne(logging.Filter):
    """Lets a line through every WARNING_SECONDS: who sends rubbish must not fill the disk; the
    metrics count all of it."""

    def __init__(self, seconds: float = WARNING_SECONDS) -> None:
        super().__init__()
        self._seconds = seconds
        self._last = -seconds

    def filter(self, record: logging.LogRecord) -> bool:
        """Is the line the first for a while?"""
        if record.levelno >= logging.ERROR:
            return True
        if record.created - self._last < self._seconds:
            return False
        self._last = record.created
        return True


logger.addFilter(AtMostOne())


class LimitedProtocol(HttpToolsProtocol):
    """One connection."""

    def __init__(self, limits: Limits, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.logger = logger
        self._limits = limits
        self._in_head = False
        self._receiving = False
        self._begun = False
        self._arrived_bytes = 0
        self._answering: RequestResponseCycle | None = None
        self._corked: Corked | None = None
        self._arrival: asyncio.TimerHandle | None = None
        self._taking: asyncio.TimerHandle | None = None
        limits.setting_up.add(self)

    # -- the connection

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Take the connection, or turn it away where there are too many."""
        self._limits.setting_up.discard(self)
        super().connection_made(transport)
        if len(self.connections) > self._limits.max_connections and not self._make_room():
            self._refuse(503, "too_many_connections", "too many connections; try again later")
            return
        self._set_idle()
        self._arm()

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget the connection."""
        self._limits.idle.pop(self, None)
        self._disarm()
        self._unset_keepalive_if_required()
        if self._taking is not None:
            self._taking.cancel()
        self._end_answer()
        super().connection_lost(exc)

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: Any) -> None:
        self._answering = cycle
        self._corked = Corked(self.transport)
        cycle.transport = cast("asyncio.Transport", self._corked)  # all that a cycle uses of one
        super()._start_asgi_task(cycle, app)

    def _end_answer(self) -> None:
        """Tell the request that is being answered that its client is gone: uvicorn tells the one
        that arrived last, which may wait behind it."""
        if self._answering is not None and not self._answering.response_complete:
            self._answering.disconnected = True
            self._answering.message_event.set()

    def _make_room(self) -> bool:
        """Close the connection that has been idle the longest, where it has been so for a while."""
        for oldest, since in self._limits.idle.items():
            if self.loop.time() - since < IDLE_SECONDS:
                return False
            del self._limits.idle[oldest]
            self.connections.discard(oldest)
            oldest.transport.close()
            return True
        return False

    def _set_idle(self) -> None:
        self._limits.idle.pop(self, None)
        if self.transport.is_closing():
            return
        self._limits.idle[self] = self.loop.time()

    # -- arriving requests

    def data_received(self, data: bytes) -> None:
        """Read on; see to it that what has begun ends in time and within bounds."""
        if self.transport.is_closing():
            return
        self._begun = False
        super().data_received(data)
        if self.transport.is_closing():
            return
        if self._receiving:
            self._count(len(data))
            self._arm()
        elif self._waits_unwatched():
            self._arm()

    def _count(self, size: int) -> None:
        """Bound what a head and a whole request may have. The piece in which the request began is
        not counted: the end of the one before may be most of it, and the event loop bounds it."""
        if self._begun:
            return
        self._arrived_bytes += size
        if self._in_head and self._arrived_bytes > MAX_HEAD_BYTES:
            self._refuse(431, "malformed", "the request's head is too large")
        elif self._arrived_bytes > MAX_REQUEST_BYTES:
            self._refuse(413, "body_too_large", "the request is too large")

    def _waits_unwatched(self) -> bool:
        """No request under way and uvicorn's own timer off: blank lines alone have arrived."""
        under_way = self.cycle is not None and not self.cycle.response_complete
        return not under_way and self.timeout_keep_alive_task is None

    def on_message_begin(self) -> None:
        """The first byte of a request: its time begins."""
        self._limits.idle.pop(self, None)
        self._disarm()
        self._in_head = self._receiving = self._begun = True
        self._arrived_bytes = 0
        super().on_message_begin()

    def on_header(self, name: bytes, value: bytes) -> None:
        """A header; what comes after the body under that name is not kept."""
        if self._in_head:
            super().on_header(name, value)

    def on_headers_complete(self) -> None:
        """The end of the head. What it raises, uvicorn answers with 400 and a close."""
        if len(self.headers) > MAX_HEADERS or len(self.pipeline) >= MAX_PIPELINED:
            raise TooMany
        super().on_headers_complete()
        self._in_head = False

    def on_message_complete(self) -> None:
        """The end of the body."""
        self._receiving = False
        self._disarm()
        super().on_message_complete()
        if self.cycle.response_complete:
            self._set_idle()

    def on_response_complete(self) -> None:
        """The connection waits for its next request, unless the body of this one still comes or
        the next one came with it."""
        if self._corked is not None:
            self._corked.flush()
        super().on_response_complete()
        if not self._receiving and self.cycle.response_complete:
            self._set_idle()

    def send_400_response(self, msg: str) -> None:
        """What is no HTTP."""
        self._refuse(400, "malformed", msg)

    def _arm(self) -> None:
        if self._arrival is None and not self.transport.is_closing():
            seconds = self._limits.request_timeout_seconds
            self._arrival = self.loop.call_later(seconds, self._too_late)

    def _disarm(self) -> None:
        if self._arrival is not None:
            self._arrival.cancel()
            self._arrival = None

    def _too_late(self) -> None:
        self._arrival = None
        if self.pipeline:  # we do not read on before the request before it is answered
            self._arm()
            return
        self._refuse(408, "request_timeout", "the request did not arrive in time")

    def _refuse(self, status: int, reason: str, message: str) -> None:
        """Answer where an answer can still be understood, and close."""
        self._limits.metrics.rejected(reason)
        if self.transport.is_closing():
            return
        if self._may_answer(status):
            head = (
                f"HTTP/1.1 {status} {HTTPStatus(status).phrase}\r\ncontent-type: text/plain\r\n"
                f"content-length: {len(message)}\r\nconnection: close\r\n\r\n"
            )
            self.transport.write(head.encode() + message.encode())
        self._end_answer()
        self.transport.close()

    def _may_answer(self, status: int) -> bool:
        """Not in the middle of another answer, not before one that is due, and not where nothing
        was asked (but that the server is full must be said)."""
        if self._in_head:
            return self.cycle is None or self.cycle.response_complete
        if self._receiving:
            return not self.cycle.response_started
        return status == HTTPStatus.SERVICE_UNAVAILABLE

    # -- answers that are taken slowly

    def pause_writing(self) -> None:
        """The client reads slower than we write."""
        super().pause_writing()
        seconds = self._limits.request_timeout_seconds
        self._taking = self.loop.call_later(seconds, self._not_taken)

    def resume_writing(self) -> None:
        """The client has caught up."""
        if self._taking is not None:
            self._taking.cancel()
            self._taking = None
        super().resume_writing()

    def _not_taken(self) -> None:
        self._limits.metrics.rejected("slow_reader")
        self.transport.abort()
