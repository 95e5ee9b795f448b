"""Calls whoever waits for sockets: on the event loop while there is one, else on a thread."""

import asyncio
import logging
import selectors
import socket
import threading
from collections.abc import Callable
from dataclasses import dataclass

logger = logging.getLogger(__name__)


@dataclass(eq=False)
class Watched:
    """A socket, what to call when it can be read, and what when it can be written where that is
    wanted."""

    channel: socket.socket
    on_readable: Callable[[], object]
    on_writable: Callable[[], object]
    wants_to_write: bool = False


class Receiver:
    """Reads sockets. On the loop an answer takes nobody's turn: no thread has to get Python's lock
    first. Everything but attach and detach may be called on any thread."""

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self._watched: set[Watched] = set()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None
        self._selector = selectors.DefaultSelector()
        self._wake, self._woken = socket.socketpair()
        self._selector.register(self._woken, selectors.EVENT_READ, None)

    def start(self) -> None:
        """Read on a thread, from now on."""
        self._thread = threading.Thread(target=self._run, name="receiver", daemon=True)
        self._thread.start()

    def attach(self, loop: asyncio.AbstractEventLoop) -> None:
        """Read on the loop, on whose thread this is called, from now on."""
        self._stop()
        with self._lock:
            for watched in self._watched:
                self._selector.unregister(watched.channel)
            self._loop = loop
            for watched in self._watched:
                self._show(watched)

    def detach(self) -> None:
        """Read on a thread again."""
        with self._lock:
            for watched in self._watched:
                self._hide(watched)
            self._loop = None
            for watched in self._watched:
                self._show(watched)
        self.start()

    def close(self) -> None:
        """Read no more."""
        self._stop()
        self._selector.close()
        self._wake.close()
        self._woken.close()

    def watch(self, watched: Watched) -> None:
        """Call from now on."""
        with self._lock:
            self._watched.add(watched)
            self._on_loop(self._show, watched)

    def forget(self, watched: Watched) -> None:
        """Call no more, and close the socket."""
        with self._lock:
            if watched in self._watched:
                self._watched.remove(watched)
                self._on_loop(self._leave, watched)

    def want_to_write(self, watched: Watched, wanted: bool) -> None:
        """Call on_writable as well, or no more."""
        with self._lock:
            if wanted != watched.wants_to_write:
                watched.wants_to_write = wanted
                if watched in self._watched:
                    self._on_loop(self._show, watched)

    def _on_loop(self, step: Callable[[Watched], object], watched: Watched) -> None:
        """A loop's sockets are its own thread's alone."""
        if self._loop is None or asyncio._get_running_loop() is self._loop:
            step(watched)
        else:
            self._loop.call_soon_threadsafe(step, watched)

    def _show(self, watched: Watched) -> None:
        """Tell the loop or the selector what is wanted of a socket."""
        channel = watched.channel
        if watched not in self._watched:
            return
        if self._loop is None:
            events = selectors.EVENT_READ
            events |= selectors.EVENT_WRITE if watched.wants_to_write else 0
            known = channel in self._selector.get_map()
            (self._selector.modify if known else self._selector.register)(channel, events, watched)
            return
        self._loop.add_reader(channel, watched.on_readable)
        if watched.wants_to_write:
            self._loop.add_writer(channel, watched.on_writable)
        else:
            self._loop.remove_writer(channel)

    def _hide(self, watched: Watched) -> None:
        channel = watched.channel
        if self._loop is not None:
            self._loop.remove_reader(channel)
            self._loop.remove_writer(channel)
        elif channel in self._selector.get_map():
            self._selector.unregister(channel)

    def _leave(self, watched: Watched) -> None:
        self._hide(watched)
        watched.channel.close()

    def _run(self) -> None:
        while True:
            for key, events in self._selector.select():
                if key.data is None:
                    self._woken.recv(1)
                    return
                if key.data not in self._watched:
                    continue
                if events & selectors.EVENT_WRITE:
                    key.data.on_writable()
                if events & selectors.EVENT_READ:
                    key.data.on_readable()

    def _stop(self) -> None:
        if self._thread is not None:
            self._wake.send(b"x")
            self._thread.join()
            self._thread = None
