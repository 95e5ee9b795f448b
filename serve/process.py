"""uvicorn as the edge server needs it: signals that drain, and an end that cuts nobody off."""

import asyncio
import logging
import signal
import socket
import ssl
from collections.abc import Callable, Coroutine, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import uvicorn
from starlette.types import ASGIApp

from serve.app import EdgeApp
from serve.hot import HotRoutes
from serve.hot_protocol import accept
from serve.listener import BACKLOG_CONNECTIONS, refuse_new
from serve.protocol import Limits

logger = logging.getLogger(__name__)

KEEP_ALIVE_SECONDS = 75
GRACE_SECONDS = 10
# Time for the event loop to accept what the kernel has set up, and for its requests to arrive.
ACCEPT_SECONDS = 0.05
LINGER_SECONDS = 0.5


class _Quiet(uvicorn.Server):
    """uvicorn without its signal handling (it re-raises the signal; we exit with 0)."""

    def __init__(
        self,
        app: ASGIApp,
        listener: socket.socket,
        limits: Limits,
        tls: ssl.SSLContext | None = None,
        hot: HotRoutes | None = None,
    ) -> None:
        config = uvicorn.Config(
            app,
            lifespan="off",
            ws="none",
            log_config=None,
            access_log=False,
            server_header=False,
            proxy_headers=False,
            backlog=BACKLOG_CONNECTIONS,
            timeout_keep_alive=KEEP_ALIVE_SECONDS,
            timeout_graceful_shutdown=GRACE_SECONDS,
        )
        super().__init__(config)
        self.listener = listener
        self._limits = limits
        self._tls = tls
        self._hot = hot

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Start to accept."""
        self.servers = [
            await accept(
                self.config, self.server_state, self.listener, self._limits, self._tls, self._hot
            )
        ]
        self.started = True

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leave the signals to `drain`."""
        yield


@dataclass(frozen=True)
class Beside:
    """What runs beside the server: loops until it stops, what SIGHUP does, the admin listener."""

    loops: Sequence[Callable[[], Coroutine[Any, Any, None]]]
    hang_up: Callable[[], Coroutine[Any, Any, None]]
    admin: tuple[ASGIApp, socket.socket] | None = None


class EdgeServer(_Quiet):
    """The public listener, whose end is the server's."""

    def __init__(
        self,
        app: EdgeApp,
        listener: socket.socket,
        drain_seconds: float,
        on_started: Callable[[], None],
        limits: Limits,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        super().__init__(app, listener, limits, tls, app.hot)
        self.drain_seconds = drain_seconds
        self._app = app
        self._on_started = on_started
        self._reloads: set[asyncio.Task[None]] = set()

    def run_until_stopped(self, beside: Beside) -> None:
        """Serve until a signal has drained the server."""
        with asyncio.Runner(loop_factory=self.config.get_loop_factory()) as runner:
            runner.run(self._serve_beside(beside))

    async def _serve_beside(self, beside: Beside) -> None:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self.drain)
        loop.add_signal_handler(signal.SIGHUP, self._hang_up, beside)
        tasks = [loop.create_task(run()) for run in beside.loops]
        admin = self._admin(beside)
        if admin is not None:
            tasks.append(loop.create_task(admin.serve(sockets=[admin.listener])))
        try:
            await self.serve(sockets=[self.listener])
        finally:
            for task in tasks[: len(beside.loops)]:
                task.cancel()
            if admin is not None:
                admin.should_exit, admin.force_exit = True, self.force_exit
            await asyncio.gather(*tasks, return_exceptions=True)

    def _admin(self, beside: Beside) -> _Quiet | None:
        if beside.admin is None:
            return None
        app, listener = beside.admin
        limits = self._limits
        own = Limits(limits.request_timeout_seconds, limits.max_connections, limits.metrics)
        return _Quiet(app, listener, own, self._tls)

    def _hang_up(self, beside: Beside) -> None:
        task = asyncio.get_running_loop().create_task(beside.hang_up())
        self._reloads.add(task)  # the loop itself holds tasks weakly
        task.add_done_callback(self._reloads.discard)

    def drain(self) -> None:
        """What a signal does, on the event loop: drain first, stop at once the second time."""
        if self._app.draining:
            logger.warning("event=forced_stop")
            self.force_exit = True
            self._stop()
            return
        logger.info("event=draining seconds=%g", self.drain_seconds)
        self._app.drain()
        asyncio.get_running_loop().call_later(self.drain_seconds, self._stop)

    def _stop(self) -> None:
        self.should_exit = True

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Start to accept, then say so."""
        await super().startup(sockets)
        self._on_started()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Accept what is connected, close the port, wait for requests under way on connections
        that are still open, then let uvicorn close what is idle."""
        if not self.force_exit:
            refuse_new(self.listener)
            await asyncio.sleep(ACCEPT_SECONDS)
            for server in self.servers:
                server.close()
            await self._linger()
        await super().shutdown(sockets)

    async def _linger(self) -> None:
        """Every answer says `connection: close`: who still asks is gone soon."""
        end = asyncio.get_running_loop().time() + LINGER_SECONDS
        busy = (self.server_state.connections, self._limits.setting_up)
        while any(busy) and asyncio.get_running_loop().time() < end:
            await asyncio.sleep(ACCEPT_SECONDS)
