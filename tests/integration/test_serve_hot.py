"""A request is answered alike on its short way, past ASGI, and on the long one: in one piece, in
chunks, in small pieces, behind others, over an old protocol."""

import json
import re
import socket
import time
from collections.abc import Iterator

import httpx
import pytest

from edgeloop.bundle import Bundle
from serve.hot import MAX_HOT_BYTES
from tests.edge_server import Server, serving
from tests.integration.test_serve_hostile import closing, connect, exchange
from tests.integration.test_serve_http import metric

BODY = b'{"inputs":"my card"}'
CHANGING = {"x-request-id", "x-total-time", "x-inference-time", "date"}


@pytest.fixture(scope="module")
def server(tiny_bundle: Bundle) -> Iterator[Server]:
    with serving(bundle=tiny_bundle.path) as running:
        yield running
        assert running.stop() == 0
        assert "Traceback" not in running.log


def head(*lines: str, path: str = "/v1/predict", version: str = "1.1") -> bytes:
    return "\r\n".join([f"POST {path} HTTP/{version}", "host: x", *lines, "", ""]).encode()


def short(body: bytes = BODY, path: str = "/v1/predict", version: str = "1.1") -> bytes:
    return head(f"content-length: {len(body)}", path=path, version=version) + body


def chunked(body: bytes = BODY, path: str = "/v1/predict") -> bytes:
    chunks = b"%x\r\n%s\r\n0\r\n\r\n" % (len(body), body)
    return head("transfer-encoding: chunked", path=path) + chunks


def answers(client: socket.socket, count: int) -> list[tuple[int, dict[str, str], bytes]]:
    """So many answers of one connection: code, headers, body."""
    stream = client.makefile("rb")
    found = []
    for _ in range(count):
        code = int(stream.readline().split()[1])
        lines = iter(stream.readline, b"\r\n")
        headers = dict(line.decode().strip().split(": ", 1) for line in lines)
        found.append((code, headers, stream.read(int(headers["content-length"]))))
    return found


def settled(answer: tuple[int, dict[str, str], bytes]) -> tuple[int, dict[str, str], object]:
    """An answer without its times and ids."""
    code, headers, body = answer
    document = json.loads(body)
    document.pop("timings", None) if isinstance(document, dict) else None
    kept = {name: value for name, value in headers.items() if name not in CHANGING}
    kept.pop("content-length")  # timings have any number of digits
    return code, kept, document


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/v1/predict", BODY),
        ("/predict", BODY),
        ("/predict", b'{"inputs":['),
        ("/predict", b'{"inputs":""}'),
        ("/v1/predict", b'{"inputs":["a","b"]}'),
        ("/v1/embeddings", b'{"input":"a","model":"nobody"}'),
        ("/v2/models/nobody/infer", b"{}"),
    ],
)
def test_both_ways_answer_alike(server: Server, path: str, body: bytes) -> None:
    with connect(server) as client:
        client.sendall(short(body, path))
        (one,) = answers(client, 1)
        client.sendall(chunked(body, path))
        (other,) = answers(client, 1)
    assert settled(one) == settled(other)
    assert one[1].keys() == other[1].keys()


def test_requests_in_one_piece_are_answered_in_order(server: Server) -> None:
    bodies = [json.dumps({"inputs": f"card {i}"}).encode() for i in range(20)]
    alone = []
    with connect(server) as client:
        for body in bodies:
            client.sendall(short(body))
            alone += answers(client, 1)
        client.sendall(b"".join(map(short, bodies)))
        together = answers(client, len(bodies))
    assert list(map(settled, together)) == list(map(settled, alone))


def test_a_request_may_come_in_small_pieces(server: Server) -> None:
    with connect(server) as client:
        for byte in short():
            client.sendall(bytes([byte]))
        ((code, _, _),) = answers(client, 1)
        assert code == 200


@pytest.mark.parametrize("words", [10, MAX_HOT_BYTES // 5])
def test_a_body_may_be_longer_than_what_the_short_way_takes(server: Server, words: int) -> None:
    body = json.dumps({"inputs": "card " * words, "truncate": True}).encode()
    assert (len(body) > MAX_HOT_BYTES) == (words > 10)
    with connect(server) as client:
        client.sendall(short(body))
        ((code, _, _),) = answers(client, 1)
        assert code == 200


def test_a_client_that_wants_to_be_asked_for_the_body_is(server: Server) -> None:
    with connect(server) as client:
        client.sendall(head(f"content-length: {len(BODY)}", "expect: 100-continue"))
        assert client.recv(12) == b"HTTP/1.1 100"
        client.recv(1000)
        client.sendall(BODY)
        ((code, _, _),) = answers(client, 1)
        assert code == 200


@pytest.mark.parametrize("request_bytes", [closing(short()), short(version="1.0")])
def test_the_connection_is_closed_where_the_client_wants_it(
    server: Server, request_bytes: bytes
) -> None:
    answer = exchange(server, request_bytes)
    assert answer.startswith(b"HTTP/1.1 200")
    assert len(re.findall(rb"connection: close", answer)) == 1


def test_nothing_is_answered_after_a_goodbye(server: Server) -> None:
    answer = exchange(server, closing(short()) + short())
    assert answer.count(b"HTTP/1.1 200") == 1


def test_a_client_that_leaves_in_the_middle_of_its_body_is_counted(server: Server) -> None:
    with httpx.Client(base_url=server.url) as http:
        labels = {"route": "/v1/predict", "code": "499"}
        before = metric(http, "edgeloop_requests_total", **labels)
        inflight = metric(http, "edgeloop_inflight_requests")
        with connect(server) as client:
            client.sendall(short()[:-5])
            time.sleep(0.05)
        end = time.monotonic() + 10
        while metric(http, "edgeloop_requests_total", **labels) == before:
            assert time.monotonic() < end
            time.sleep(0.01)
        assert metric(http, "edgeloop_inflight_requests") == inflight
