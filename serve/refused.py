"""A request that gets an error answer; each dialect has its own shape for it."""

import math
from collections.abc import Sequence
from typing import Literal

import msgspec

ErrorType = Literal[
    "Unhealthy",
    "Backend",
    "Overloaded",
    "Validation",
    "Tokenizer",
    "Empty",
    "Timeout",
    "NotFound",
    "Unauthorized",
    "Forbidden",
]


class TeiError(msgspec.Struct):
    """The shape of errors of text-embeddings-inference, and of all routes that are no dialect's."""

    error: str
    error_type: str


class Refused(Exception):
    """A request that gets an error answer; `reason` is its label in the metrics."""

    def __init__(
        self,
        status: int,
        error_type: ErrorType,
        message: str,
        reason: str = "invalid",
        headers: Sequence[tuple[bytes, bytes]] = (),
    ) -> None:
        super().__init__(message)
        self.status = status
        self.error_type = error_type
        self.message = message
        self.reason = reason
        self.headers = tuple(headers)

    def body(self) -> bytes:
        """A TeiError as JSON."""
        return msgspec.json.encode(TeiError(self.message, self.error_type))


def retry_after(seconds: float) -> list[tuple[bytes, bytes]]:
    """The headers that say when to come back, in whole seconds and in ms."""
    return [
        (b"retry-after", str(math.ceil(seconds)).encode()),
        (b"retry-after-ms", str(math.ceil(seconds * 1000)).encode()),
    ]


def invalid(message: str) -> Refused:
    """What a request that is understood and not valid gets: 422."""
    return Refused(422, "Validation", message)
