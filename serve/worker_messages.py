"""What the server and its inference processes say to each other over a socket: four bytes of
length, little-endian, then a message in MessagePack.
"""

import struct
from collections.abc import Iterator
from typing import Any

import msgspec
import numpy as np

from edgeloop.runtime import Answered, RowOutput

LENGTH = struct.Struct("<I")


class Load(msgspec.Struct, array_like=True, tag=0):
    """Open the model that lies in a folder, under a number."""

    model: int
    folder: str
    max_tokens: int


class Drop(msgspec.Struct, array_like=True, tag=1):
    """Forget a model."""

    model: int


class Ask(msgspec.Struct, array_like=True, tag=2):
    """Answer a text or pair. `rest`: by what the model asks where its first stage is not sure."""

    number: int
    model: int
    text: str | tuple[str, str]
    truncate: bool
    rest: bool


class Hello(msgspec.Struct, array_like=True, tag=0):
    """A process is there."""

    pid: int


class Loaded(msgspec.Struct, array_like=True, tag=1):
    """A model is open; or why it is not."""

    model: int
    problem: str | None


class Told(msgspec.Struct, array_like=True, tag=2):
    """An answer; arrays are float32 as bytes. `started`: time.monotonic(), which all processes of
    a machine share."""

    number: int
    logits: bytes
    shape: tuple[int, ...]
    embedding: bytes
    offsets: tuple[tuple[int, int], ...]
    tokens: int
    truncated: bool
    stage: str
    unknown_tokens: int
    started: float
    seconds: float

    def answered(self) -> Answered:
        """The answer itself, whose arrays are read-only."""
        logits = np.frombuffer(self.logits, dtype=np.float32).reshape(self.shape)
        embedding = np.frombuffer(self.embedding, dtype=np.float32)
        output = RowOutput(logits, embedding, self.offsets)
        return Answered(output, self.tokens, self.truncated, self.stage, self.unknown_tokens)


class Failed(msgspec.Struct, array_like=True, tag=3):
    """Why there is no answer."""

    number: int
    too_long: bool
    problem: str


ToWorker = Load | Drop | Ask
FromWorker = Hello | Loaded | Told | Failed


def told(number: int, answered: Answered, started: float, seconds: float) -> Told:
    """An answer as a message."""
    output = answered.output
    return Told(
        number,
        output.logits.tobytes(),
        output.logits.shape,
        output.embedding.tobytes(),
        output.offsets,
        answered.tokens,
        answered.truncated,
        answered.stage,
        answered.unknown_tokens,
        started,
        seconds,
    )


_encode = msgspec.msgpack.Encoder().encode


def pack(message: ToWorker | FromWorker) -> bytes:
    """A message with its length. Raises UnicodeEncodeError at a lone surrogate."""
    body = _encode(message)
    return LENGTH.pack(len(body)) + body


class Frames:
    """Messages out of what a socket gave, which cuts them anywhere."""

    def __init__(self, kind: Any) -> None:
        self._decode = msgspec.msgpack.Decoder(kind).decode
        self._rest = b""

    def read(self, data: bytes) -> Iterator[Any]:
        """The messages that are whole now."""
        data = self._rest + data if self._rest else data
        at, end = 0, len(data)
        while end - at >= LENGTH.size:
            (length,) = LENGTH.unpack_from(data, at)
            after = at + LENGTH.size + length
            if after > end:
                break
            yield self._decode(memoryview(data)[at + LENGTH.size : after])
            at = after
        self._rest = data[at:]
