"""Plain ASGI: reading a bounded body, sending an answer, and what every answer carries.

Headers of every answer: x-request-id (the client's, or a new one), x-total-time (ms), and while
the server drains `connection: close`, so that no client is left on a connection that goes away.
"""

import time
import uuid
from collections.abc import Sequence
from itertools import count

from starlette.types import Message, Receive, Scope, Send

from serve.inflate import inflate
from serve.refused import Refused

MAX_BODY_BYTES = 256 * 1024
# A body over the limit is still read up to here: an answer to a client that is still sending
# would be lost in a connection reset.
DRAIN_BYTES = 8 * 1024 * 1024
CLIENT_CLOSED = 499
REQUEST_ID_MAX_CHARS = 128
JSON = b"application/json"
PLAIN_TYPES = frozenset((JSON, b"application/json; charset=utf-8", b"application/octet-stream"))

# Of the ids that this process gives: a random number for each would be a system call.
PROCESS = uuid.uuid4().hex[:16].encode()
NUMBERS = count()

Headers = Sequence[tuple[bytes, bytes]]


class ClientGone(Exception):
    """The client closed its connection before its request was complete."""


class Exchange:
    """One request and its answer's status."""

    def __init__(self, scope: Scope, draining: bool) -> None:
        self.started = time.perf_counter()
        self.status = 500
        self._draining = draining
        self.headers: dict[bytes, bytes] = dict(scope["headers"])
        self.id = request_id(self.headers.get(b"x-request-id"))

    def carried(self) -> list[tuple[bytes, bytes]]:
        """The headers of every answer, whatever it is."""
        headers = [(b"x-request-id", self.id), (b"x-total-time", milliseconds(self.seconds()))]
        if self._draining:
            headers.append((b"connection", b"close"))
        return headers

    def seconds(self) -> float:
        """Since the request's head was read."""
        return time.perf_counter() - self.started


class AsgiExchange(Exchange):
    """One that is answered through ASGI: wraps `send`."""

    def __init__(self, scope: Scope, send: Send, draining: bool) -> None:
        super().__init__(scope, draining)
        self.answered = False
        self._send = send

    async def send(self, message: Message) -> None:
        """Pass a message on, with the headers of every answer."""
        if message["type"] == "http.response.start":
            self.status = message["status"]
            self.answered = True
            message = {**message, "headers": [*message.get("headers", ()), *self.carried()]}
        await self._send(message)


def header(scope: Scope, name: bytes) -> bytes | None:
    """The first header of that lower-case name."""
    for key, value in scope["headers"]:
        if key == name:
            return bytes(value)
    return None


def request_id(given: bytes | None) -> bytes:
    """The client's id where it is short and printable ASCII, else a new one."""
    if given and len(given) <= REQUEST_ID_MAX_CHARS and all(0x20 < byte < 0x7F for byte in given):
        return given
    return b"%s%016x" % (PROCESS, next(NUMBERS))


def milliseconds(seconds: float) -> bytes:
    """A header value: 1.234."""
    return f"{seconds * 1000:.3f}".encode()


async def read_body(scope: Scope, receive: Receive, limit_bytes: int = MAX_BODY_BYTES) -> bytes:
    """The whole body, inflated where it was deflated.

    Raises Refused (413) where it is larger, before or after, or (400, 415) where it is not what its
    Content-Encoding says; ClientGone where it ends early.
    """
    length = header(scope, b"content-length")
    announced = int(length) if length is not None and length.isdigit() else 0
    chunks: list[bytes] = []
    size, more = 0, announced <= DRAIN_BYTES
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise ClientGone
        chunk = message.get("body", b"")
        size += len(chunk)
        if size <= limit_bytes:
            chunks.append(chunk)
        more = message.get("more_body", False) and size <= DRAIN_BYTES
    if max(size, announced) > limit_bytes:
        raise Refused(
            413,
            "Validation",
            f"the body is larger than {limit_bytes} bytes; send shorter texts or fewer at a time",
            reason="body_too_large",
            headers=[(b"connection", b"close")],
        )
    body = b"".join(chunks)
    encoding = header(scope, b"content-encoding")
    return body if encoding is None else inflate(body, encoding, limit_bytes)


def check_content_type(value: bytes | None) -> None:
    """Raises Refused (415) where a body says that it is something else than JSON in UTF-8. Bytes of
    no particular type, and those of no type at all, are read as JSON."""
    if value is None or value in PLAIN_TYPES:
        return
    kind, *parameters = (part.strip() for part in value.decode("latin-1").lower().split(";"))
    charsets = [p.partition("=")[2].strip(' "') for p in parameters if p.startswith("charset")]
    is_json = kind == "application/json" or (kind.startswith("application/") and "+json" in kind)
    if (is_json or kind == "application/octet-stream") and set(charsets) <= {"utf-8", "utf8"}:
        return
    raise Refused(
        415,
        "Validation",
        f"content-type {value.decode('latin-1')!r} is not read here; send JSON in UTF-8 as "
        "application/json",
    )


async def send_body(
    send: Send, status: int, body: bytes, headers: Headers = (), content_type: bytes = JSON
) -> None:
    """Answer with a whole body."""
    plain = [
        (b"content-type", content_type),
        (b"content-length", str(len(body)).encode()),
        *headers,
    ]
    await send({"type": "http.response.start", "status": status, "headers": plain})
    await send({"type": "http.response.body", "body": body})
