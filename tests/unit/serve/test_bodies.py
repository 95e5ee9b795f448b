"""Bodies: content types, encodings, and JSON that is made to hurt."""

import gzip
import json
import zlib
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from serve.body import decode
from serve.dialects.tei import EmbedBody, PredictBody
from serve.inflate import inflate
from serve.wire import check_content_type
from tests.asked import refusal, status_of

LIMIT_BYTES = 4096
BODY = st.binary(max_size=LIMIT_BYTES)


def raw_deflate(body: bytes) -> bytes:
    stream = zlib.compressobj(wbits=-15)
    return stream.compress(body) + stream.flush()


@given(BODY, BODY)
def test_bodies_are_inflated_to_what_they_were(first: bytes, second: bytes) -> None:
    assert inflate(gzip.compress(first, mtime=0), b"gzip", LIMIT_BYTES) == first
    assert inflate(gzip.compress(first, mtime=0), b" X-GZip ", LIMIT_BYTES) == first
    assert inflate(zlib.compress(first), b"deflate", LIMIT_BYTES) == first
    assert inflate(first, b"identity", LIMIT_BYTES) == first
    both = gzip.compress(first, mtime=0) + gzip.compress(second)
    assert inflate(both, b"gzip", 2 * LIMIT_BYTES) == first + second


def test_deflate_without_a_header_is_read_too() -> None:
    body = b'{"inputs": "my card"}'
    assert inflate(raw_deflate(body), b"deflate", LIMIT_BYTES) == body


@given(st.binary(max_size=200), st.sampled_from([b"gzip", b"deflate"]))
def test_any_bytes_are_inflated_or_refused(body: bytes, encoding: bytes) -> None:
    assert status_of(lambda: inflate(body, encoding, LIMIT_BYTES)) in (200, 400, 413)


@pytest.mark.parametrize("make", [gzip.compress, zlib.compress, raw_deflate])
def test_a_bomb_is_refused(make: Any) -> None:
    encoding = b"gzip" if make is gzip.compress else b"deflate"
    bomb = make(b"a" * 10_000_000)
    problem = refusal(lambda: inflate(bomb, encoding, LIMIT_BYTES))
    assert (problem.status, problem.reason) == (413, "body_too_large")
    full = make(b"a" * LIMIT_BYTES)
    assert len(inflate(full, encoding, LIMIT_BYTES)) == LIMIT_BYTES


def test_many_small_members_are_a_bomb_as_well() -> None:
    bomb = gzip.compress(b"a" * 100, mtime=0) * 100
    assert refusal(lambda: inflate(bomb, b"gzip", LIMIT_BYTES)).status == 413


@pytest.mark.parametrize(
    ("body", "encoding"),
    [
        (b"", b"gzip"),
        (b"", b"deflate"),
        (b"plain", b"gzip"),
        (gzip.compress(b"my card", mtime=0)[:-4], b"gzip"),
        (gzip.compress(b"my card", mtime=0) + b"more", b"gzip"),
        (zlib.compress(b"my card") + b"more", b"deflate"),
        (zlib.compress(b"my card")[:-1], b"deflate"),
    ],
)
def test_a_broken_stream_is_refused(body: bytes, encoding: bytes) -> None:
    problem = refusal(lambda: inflate(body, encoding, LIMIT_BYTES))
    assert problem.status == 400
    assert encoding.decode() in problem.message


@pytest.mark.parametrize("encoding", [b"br", b"zstd", b"gzip, gzip", b"\xff"])
def test_other_encodings_are_refused_with_those_that_are_read(encoding: bytes) -> None:
    problem = refusal(lambda: inflate(b"a", encoding, LIMIT_BYTES))
    assert problem.status == 415
    assert dict(problem.headers)[b"accept-encoding"] == b"gzip, deflate"


@pytest.mark.parametrize(
    "value",
    [
        None,
        b"application/json",
        b"application/json; charset=utf-8",
        b"Application/JSON;charset=UTF-8",
        b'application/json; charset="utf-8"',
        b"application/vnd.api+json",
        b"application/octet-stream",
    ],
)
def test_json_needs_no_content_type_and_may_have_one(value: bytes | None) -> None:
    check_content_type(value)


@pytest.mark.parametrize(
    "value",
    [
        b"",
        b"text/plain",
        b"application/x-www-form-urlencoded",
        b"multipart/form-data; boundary=x",
        b"application/xml",
        b"application/json; charset=utf-16",
        b"text/json\xff",
    ],
)
def test_what_would_be_misread_is_refused(value: bytes) -> None:
    problem = refusal(lambda: check_content_type(value))
    assert problem.status == 415
    assert "application/json" in problem.message


DEEP = 100_000
HOSTILE = [
    b'{"inputs": ' + b"[" * DEEP + b"]" * DEEP + b"}",
    b'{"other": ' + b"[" * DEEP + b"]" * DEEP + b', "inputs": 3}',
    b'{"other": ' + b'{"a":' * DEEP + b"1" + b"}" * DEEP + b', "inputs": 3}',
    b'{"inputs": NaN}',
    b'{"inputs": "a", "dimensions": Infinity}',
    b'{"inputs": "a", "dimensions": 1e999}',
    b'{"inputs": "a", "dimensions": ' + b"9" * 10_000 + b"}",
    b'{"inputs": "\xff\xfe"}',
    b'{"inputs": "\xed\xa0\x80"}',
    b'{"inputs": "\\ud800"}',
    b'{"inputs": "\\udc00 a"}',
    b'{"inputs": "a\x00b"}',
    b'\x00{"inputs": "a"}',
    b'\xef\xbb\xbf{"inputs": 3}',
    json.dumps({"inputs": "a", "dimensions": "3"}).encode("utf-16"),
    b'{"inputs": "a"} {"inputs": "b"}',
]


@pytest.mark.parametrize("body", HOSTILE, ids=range(len(HOSTILE)))
def test_hostile_json_is_refused(body: bytes) -> None:
    for struct in (PredictBody, EmbedBody):
        decoder = msgspec.json.Decoder(struct)
        status = status_of(lambda decoder=decoder: decode(decoder, body))  # type: ignore[misc]
        is_other = b"dimensions" in body and struct is PredictBody
        assert status in ((200, 400, 422) if is_other else (400, 422))
