"""An answer's head held back until its body comes: one system call and one segment for both."""

import asyncio

CONTINUE = b"HTTP/1.1 100"


class Corked:
    """What of a transport uvicorn writes one answer to."""

    def __init__(self, transport: asyncio.Transport) -> None:
        self._transport = transport
        self._held = b""
        self._begun = False

    def write(self, data: bytes) -> None:
        """Hold the first piece, the head; the next one goes with it, all others as they come. Who
        waits to be told to send a body is told at once."""
        if data.startswith(CONTINUE) and not self._begun:
            self._transport.write(data)
        elif not self._begun:
            self._held, self._begun = data, True
        else:
            held, self._held = self._held, b""
            self._transport.write(held + data if held else data)

    def flush(self) -> None:
        """An answer may have a head alone."""
        held, self._held = self._held, b""
        if held:
            self._transport.write(held)

    def is_closing(self) -> bool:
        """Is the connection on its way out?"""
        return self._transport.is_closing()

    def close(self) -> None:
        """What is held goes first."""
        self.flush()
        self._transport.close()
