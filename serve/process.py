"""uvicorn as the edge server needs it: signals that drain, and an end that cuts nobody off."""

import asyncio
import logging
import signal
import socket
import ssl
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import uvicorn

from serve.app import EdgeApp
from serve.follow import Follower
from serve.listener import BACKLOG_CONNECTIONS, refuse_new
from serve.protocol import Limits, accept

logger = logging.getLogger(__name__)

KEEP_ALIVE_SECONDS = 75
GRACE_SECONDS = 10
# Time for the event loop to accept what the kernel has set up, and for its requests to arrive.
ACCEPT_SECONDS = 0.05
LINGER_SECONDS = 0.5


class EdgeServer(uvicorn.Server):
    """uvicorn without its signal handling (it re-raises the signal; we exit with 0)."""

    def __init__(
        self,
        app: EdgeApp,
        listener: socket.socket,
        drain_seconds: float,
        on_started: Callable[[], None],
        limits: Limits,
        tls: ssl.SSLContext | None = None,
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
        self._app = app
        self._listener = listener
        self._drain_seconds = drain_seconds
        self._on_started = on_started
        self._limits = limits
        self._tls = tls

    def run_until_stopped(self, follower: Follower | None, poll_seconds: float) -> None:
        """Serve, and follow the ledger meanwhile, until a signal has drained the server."""
        with asyncio.Runner(loop_factory=self.config.get_loop_factory()) as runner:
            runner.run(self._serve_and_follow(follower, poll_seconds))

    async def _serve_and_follow(self, follower: Follower | None, poll_seconds: float) -> None:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self.drain)
        following = None if follower is None else loop.create_task(follower.run(poll_seconds))
        try:
            await self.serve(sockets=[self._listener])
        finally:
            if following is not None:
                following.cancel()

    def drain(self) -> None:
        """What a signal does, on the event loop: drain first, stop at once the second time."""
        if self._app.draining:
            logger.warning("event=forced_stop")
            self.force_exit = True
            self._stop()
            return
        logger.info("event=draining seconds=%g", self._drain_seconds)
        self._app.draining = True
        asyncio.get_running_loop().call_later(self._drain_seconds, self._stop)

    def _stop(self) -> None:
        self.should_exit = True

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leave the signals to `drain`."""
        yield

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Start to accept, then say so."""
        self.servers = [
            await accept(self.config, self.server_state, self._listener, self._limits, self._tls)
        ]
        self.started = True
        self._on_started()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Accept what is connected, close the port, wait for requests under way on connections
        that are still open, then let uvicorn close what is idle."""
        if not self.force_exit:
            refuse_new(self._listener)
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
