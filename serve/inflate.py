"""Bodies with Content-Encoding gzip or deflate, inflated into a bounded size."""

import zlib

from serve.refused import Refused

# What zlib calls its formats: gzip, zlib, and deflate without either's header, which some clients
# send as "deflate" although it means zlib's.
GZIP, ZLIB, RAW = 31, 15, -15
_ZLIB_METHOD = 8


def inflate(body: bytes, encoding: bytes, limit_bytes: int) -> bytes:
    """The body as it was.

    Raises Refused: 415 for an encoding that is not known, 400 for a broken stream, 413 for more
    than `limit_bytes`, of which no more is held than that.
    """
    name = encoding.decode("latin-1").strip().lower()
    if name in ("", "identity"):
        return body
    if name not in ("gzip", "x-gzip", "deflate"):
        raise Refused(
            415,
            "Validation",
            f"content-encoding {name!r} is not read here; send the body as it is, or gzip or "
            "deflate it",
            headers=[(b"accept-encoding", b"gzip, deflate")],
        )
    try:
        return _inflate(body, GZIP if name.endswith("gzip") else _deflate_format(body), limit_bytes)
    except zlib.error as problem:
        raise _broken(name, str(problem)) from None
    except EOFError:
        raise _broken(name, "it ends early") from None


def _deflate_format(body: bytes) -> int:
    return ZLIB if body[:1] and body[0] & 0x0F == _ZLIB_METHOD else RAW


def _inflate(body: bytes, wbits: int, limit_bytes: int) -> bytes:
    """All members of a gzip file, or the one stream of the others."""
    parts: list[bytes] = []
    left = limit_bytes + 1
    while True:
        stream = zlib.decompressobj(wbits)
        part = stream.decompress(body, left)
        parts.append(part)
        left -= len(part)
        if left <= 0:
            raise Refused(
                413,
                "Validation",
                f"the body inflates to more than {limit_bytes} bytes; send shorter texts or fewer "
                "at a time",
                reason="body_too_large",
            )
        if not stream.eof:
            raise EOFError
        body = stream.unused_data
        if not body:
            return b"".join(parts)
        if wbits != GZIP:
            raise zlib.error("bytes follow the stream")


def _broken(name: str, problem: str) -> Refused:
    return Refused(
        400, "Validation", f"the body is not {name} as its content-encoding says: {problem}"
    )
