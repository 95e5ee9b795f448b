"""The public listener's protocol: requests for answers go straight to the engine (serve/hot.py),
all others through uvicorn to the application.
"""

import asyncio
import socket
import ssl
from functools import partial
from typing import Any, cast

from starlette.types import Scope
from uvicorn.config import Config
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, RequestResponseCycle
from uvicorn.server import ServerState

from serve.hot import HotRequest, HotRoutes
from serve.protocol import SHUTDOWN_SECONDS, LimitedProtocol, Limits
from serve.wire import Headers

CLOSE = (b"connection", b"close")


class HotProtocol(LimitedProtocol):
    """One connection. `routes`: None where the application answers everything."""

    def __init__(self, limits: Limits, routes: HotRoutes | None, *args: Any, **kwargs: Any) -> None:
        super().__init__(limits, *args, **kwargs)
        self._routes = routes
        self._may_be_hot = True
        self._hot: HotRequest | None = None

    def data_received(self, data: bytes) -> None:
        """Read on."""
        self._may_be_hot = True
        super().data_received(data)

    def on_message_complete(self) -> None:
        """The end of the body."""
        super().on_message_complete()
        if self._hot is not None and self._answering is self.cycle:
            self._hot.begin(bytes(self.cycle.body))

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: Any) -> None:
        self._hot = self._take(cycle)
        if self._hot is None:
            super()._start_asgi_task(cycle, app)
        else:
            self._answering = cycle

    def _take(self, cycle: RequestResponseCycle) -> HotRequest | None:
        """Of the requests that arrive in one piece the first alone, so that the others leave the
        event loop to other connections in between; and none whose client does not take the answers
        that it has."""
        if self._routes is None or not self._may_be_hot or not cycle.more_body:
            return None
        if self.flow.write_paused or self.transport.is_closing():
            return None
        self._may_be_hot = False
        return self._routes.take(cast("Scope", self.scope), partial(self._answer, cycle))

    def _answer(
        self, cycle: RequestResponseCycle, status: int, headers: Headers, body: bytes
    ) -> None:
        """Write the whole answer, in one piece, as a cycle would in two."""
        self._hot = None
        if cycle.disconnected:
            return
        if not cycle.keep_alive and CLOSE not in headers:
            headers = [*headers, CLOSE]
        lines = [STATUS_LINE[status]]
        for name, value in (*cycle.default_headers, *headers):
            lines += (name, b": ", value, b"\r\n")
        lines += (b"\r\n", body)
        cycle.response_started = cycle.response_complete = True
        self.transport.write(b"".join(lines))
        if CLOSE in headers:
            self.transport.close()
        self.on_response_complete()

    def _end_answer(self) -> None:
        super()._end_answer()
        if self._hot is not None:
            hot, self._hot = self._hot, None
            hot.client_gone()


async def accept(
    config: Config,
    state: ServerState,
    listener: socket.socket,
    limits: Limits,
    tls: ssl.SSLContext | None,
    routes: HotRoutes | None,
) -> asyncio.Server:
    """Take connections from a socket that listens, within the limits; with `tls` encrypted."""
    loop = asyncio.get_running_loop()
    make = partial(
        HotProtocol, limits, routes, config=config, server_state=state, app_state={}, _loop=loop
    )
    if tls is None:
        return await loop.create_server(make, sock=listener, backlog=config.backlog)
    return await loop.create_server(
        make,
        sock=listener,
        backlog=config.backlog,
        ssl=tls,
        ssl_handshake_timeout=limits.request_timeout_seconds,
        ssl_shutdown_timeout=min(SHUTDOWN_SECONDS, limits.request_timeout_seconds),
    )
