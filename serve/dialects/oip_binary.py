"""The binary tensor extension of the Open Inference Protocol: the JSON of a message, and after it
the tensors' bytes one after the other, as many as each one's `binary_data_size` says.

The header Inference-Header-Content-Length has the length of the JSON. Numbers are little-endian; an
element of BYTES is its length, uint32 little-endian, and then that many bytes.
Source: Triton's docs/protocol/extension_binary_data.md.
"""

import struct
from collections.abc import Iterable, Mapping
from typing import Any

from numpy.typing import NDArray

from serve.refused import Refused

JSON_LENGTH = b"inference-header-content-length"
_LENGTH = struct.Struct("<I")
# How numpy writes a tensor's datatype.
DTYPES = {"FP32": "<f4", "BOOL": "?"}


def split_body(body: bytes, headers: Mapping[bytes, bytes]) -> tuple[bytes, memoryview]:
    """The JSON and the tensors' bytes; without the header all is JSON. Raises Refused (400)."""
    value = headers.get(JSON_LENGTH)
    if value is None:
        return body, memoryview(b"")
    length = int(value) if value.isdigit() and len(value) < 16 else -1
    if not 0 <= length <= len(body):
        raise _broken(
            f"{JSON_LENGTH.decode()} is {value.decode('latin-1')!r}, the body has {len(body)} bytes"
        )
    return body[:length], memoryview(body)[length:]


def read_strings(data: memoryview, elements: int, name: str) -> list[str]:
    """A BYTES tensor of texts in UTF-8. Raises Refused (400) where it is not exactly that many."""
    texts: list[str] = []
    position = 0
    while position < len(data):
        if len(data) - position < _LENGTH.size:
            raise _broken(f"input {name!r} ends within the length of element {len(texts)}")
        (size,) = _LENGTH.unpack_from(data, position)
        position += _LENGTH.size
        if size > len(data) - position:
            raise _broken(
                f"input {name!r}: element {len(texts)} has {size} bytes, only "
                f"{len(data) - position} are left"
            )
        texts.append(_text(data[position : position + size], name, len(texts)))
        position += size
    if len(texts) != elements:
        raise _broken(f"input {name!r} has {len(texts)} elements, its shape has {elements}")
    return texts


def _text(data: memoryview, name: str, index: int) -> str:
    try:
        return str(data, "utf-8")
    except UnicodeDecodeError as problem:
        raise _broken(f"input {name!r}: element {index} is not UTF-8 ({problem})") from None


def write_strings(texts: Iterable[str]) -> bytes:
    """A BYTES tensor."""
    parts = []
    for text in texts:
        data = text.encode()
        parts += [_LENGTH.pack(len(data)), data]
    return b"".join(parts)


def write_numbers(values: NDArray[Any], datatype: str) -> bytes:
    """A tensor of FP32 or BOOL, row-major."""
    return values.astype(DTYPES[datatype]).tobytes()


def _broken(message: str) -> Refused:
    return Refused(400, "Validation", f"binary tensors: {message}")
