"""One inference process, as the server sees it: what it was sent, and what it still has to load."""

import socket
import time
from collections.abc import Callable
from typing import Generic, TypeVar

from serve.receiver import Receiver, Watched
from serve.worker_messages import Frames, FromWorker

T = TypeVar("T")


class Process(Generic[T]):
    """Not thread-safe: the pool's lock is held. `sent`: by number, what it was asked."""

    def __init__(
        self,
        channel: socket.socket,
        receiver: Receiver,
        on_readable: Callable[["Process[T]"], None],
        on_writable: Callable[["Process[T]"], None],
    ) -> None:
        channel.setblocking(False)
        self.pid = 0
        self.sent: dict[int, T] = {}
        self.loading: set[int] = set()
        self.frames = Frames(FromWorker)
        self.started = time.monotonic()
        self._unsent = b""
        self._receiver = receiver
        self.watched = Watched(channel, lambda: on_readable(self), lambda: on_writable(self))
        receiver.watch(self.watched)

    def send(self, data: bytes) -> None:
        """What the socket does not take at once it gets later. Raises OSError."""
        if self._unsent:
            self._unsent += data
        else:
            self._send(data)

    def send_rest(self) -> None:
        """The socket takes more. Raises OSError."""
        self._send(self._unsent)

    def _send(self, data: bytes) -> None:
        try:
            count = self.watched.channel.send(data)
        except BlockingIOError:
            count = 0
        self._unsent = data[count:]
        self._receiver.want_to_write(self.watched, bool(self._unsent))
