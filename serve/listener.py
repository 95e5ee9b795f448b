"""The server's socket: owned before anything is loaded, and closed without cutting anybody off.

Closing a listening socket resets the connections that the kernel has set up and the server has
not accepted yet. On Linux a packet filter first keeps new ones from being set up (their clients
try again and find the port closed), so that those that wait can be accepted and answered.
"""

import ctypes
import errno
import logging
import socket
import struct
import sys

from edgeloop.errors import RecipeError

logger = logging.getLogger(__name__)

BACKLOG_CONNECTIONS = 2048
SO_ATTACH_FILTER = 26
# One classic BPF instruction: BPF_RET with 0 bytes to keep, which drops the packet.
# Source: https://docs.kernel.org/networking/filter.html
DROP_ALL = struct.pack("HBBI", 0x06, 0, 0, 0)


def bind(host: str, port: int, options: str = "--host or --port") -> socket.socket:
    """Own the address; nobody can connect yet. `options`: where it comes from. Raises RecipeError
    that says what to do."""
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
    except OSError as problem:
        raise RecipeError(
            f"{host}: is no address of this machine ({problem}); use 127.0.0.1 in {options}"
        ) from None
    listener = socket.socket(family, kind, protocol)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind(address)
    except OSError as problem:
        listener.close()
        raise _no_port(host, port, problem, options) from None
    return listener


def listen(listener: socket.socket) -> None:
    """Let clients connect. Raises RecipeError where another process that had bound the same
    address began to listen first."""
    try:
        listener.listen(BACKLOG_CONNECTIONS)
    except OSError as problem:
        host, port = listener.getsockname()[:2]
        raise _no_port(host, port, problem) from None


def refuse_new(listener: socket.socket) -> None:
    """Let no more connections be set up; those that are can still be accepted."""
    if sys.platform != "linux":
        return
    program = ctypes.create_string_buffer(DROP_ALL)
    descriptor = struct.pack("HP", 1, ctypes.addressof(program))
    try:
        listener.setsockopt(socket.SOL_SOCKET, SO_ATTACH_FILTER, descriptor)
    except OSError as problem:  # some sandboxes forbid it: a few clients may see a reset then
        logger.warning("event=no_socket_filter problem=%s", problem)


def url(listener: socket.socket, scheme: str = "http") -> str:
    """http://127.0.0.1:8080"""
    host, port = listener.getsockname()[:2]
    return f"{scheme}://[{host}]:{port}" if ":" in host else f"{scheme}://{host}:{port}"


def _no_port(
    host: str, port: int, problem: OSError, options: str = "--host or --port"
) -> RecipeError:
    if problem.errno == errno.EADDRINUSE:
        return RecipeError(
            f"{host}:{port}: the port is in use by another process; stop that process, or choose "
            f"another port with {options} (port 0 picks a free one)"
        )
    return RecipeError(
        f"{host}:{port}: cannot be bound ({problem.strerror}); choose another {options}"
    )
