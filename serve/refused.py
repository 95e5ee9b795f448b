"""A request that gets an error answer, in the shape of text-embeddings-inference."""

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
    "Unauthorized",
    "Forbidden",
]


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
        """{"error", "error_type"} as JSON."""
        return msgspec.json.encode({"error": self.message, "error_type": self.error_type})


def retry_after(seconds: float) -> list[tuple[bytes, bytes]]:
    """The headers that say when to come back, in whole seconds and in ms."""
    return [
        (b"retry-after", str(math.ceil(seconds)).encode()),
        (b"retry-after-ms", str(math.ceil(seconds * 1000)).encode()),
    ]


def invalid(message: str) -> Refused:
    """What a request that is understood and not valid gets: 422."""
    return Refused(422, "Validation", message)
