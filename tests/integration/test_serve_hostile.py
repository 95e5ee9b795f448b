"""Clients that mean harm, or behave as if: each gets a 4xx or a close, and the server answers an
ordinary request afterwards, in the memory it had."""

import gzip
import json
import re
import resource
import socket
import struct
import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import httpx
import psutil
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from edgeloop.bundle import Bundle
from tests.certificates import Authority
from tests.edge_server import Server, serving
from tests.integration.test_serve_http import metric

# For a request to arrive; the tests wait for it more than once.
ARRIVAL_SECONDS = 0.5
PATIENCE_SECONDS = 30.0
CONNECTIONS = 3000
MOST_GROWTH_BYTES = 100_000_000
BODY = b'{"inputs":"my card"}'
ORDINARY = b"POST /predict HTTP/1.1\r\nhost: x\r\ncontent-length: %d\r\n\r\n%s" % (len(BODY), BODY)


@pytest.fixture(scope="module")
def server(tiny_bundle: Bundle) -> Iterator[Server]:
    with serving(
        bundle=tiny_bundle.path,
        request_timeout_seconds=ARRIVAL_SECONDS,
        max_connections=2 * CONNECTIONS,
    ) as running:
        before = psutil.Process(running.process.pid).memory_info().rss
        yield running
        assert psutil.Process(running.process.pid).memory_info().rss < before + MOST_GROWTH_BYTES
        assert running.stop() == 0
        assert "Traceback" not in running.log
        assert len(running.log.splitlines()) < 1000


@pytest.fixture(autouse=True)
def answers_afterwards(server: Server) -> Iterator[None]:
    yield
    reply = httpx.post(f"{server.url}/predict", json={"inputs": "my card"}, timeout=20)
    assert reply.status_code == 200


def connect(server: Server) -> socket.socket:
    host, port = server.url.split("//")[1].split(":")
    return socket.create_connection((host, int(port)), timeout=PATIENCE_SECONDS)


def rest(client: socket.socket) -> bytes:
    """What the server still sends until it closes."""
    parts = []
    try:
        while part := client.recv(65536):
            parts.append(part)
    except ConnectionError:  # a reset is a close
        pass
    return b"".join(parts)


def exchange(server: Server, *pieces: bytes, pause_seconds: float = 0.0) -> bytes:
    """Send the pieces, as far as the server takes them; what it sends until it closes."""
    with connect(server) as client:
        try:
            for piece in pieces:
                client.sendall(piece)
                time.sleep(pause_seconds)
        except ConnectionError:
            pass
        return rest(client)


def codes(answer: bytes) -> list[int]:
    """The status codes of an answer's status lines."""
    return [int(code) for code in re.findall(rb"HTTP/1\.1 (\d{3}) ", answer)]


def closing(head: bytes, body: bytes = b"") -> bytes:
    """A request after which the server closes."""
    return head.replace(b"\r\n\r\n", b"\r\nhost: x\r\nconnection: close\r\n\r\n", 1) + body


def rejected(server: Server, reason: str) -> float:
    with httpx.Client(base_url=server.url) as http:
        return metric(http, "edgeloop_rejected_total", reason=reason)


# -- slow ones ---------------------------------------------------------------------------------


def drip(server: Server, start: bytes, each: bytes) -> bytes:
    """Send a little again and again until the server has had enough."""
    return exchange(server, start, *[each] * 1000, pause_seconds=ARRIVAL_SECONDS / 10)


@pytest.mark.parametrize(
    ("start", "each", "code"),
    [
        (b"POST /predict HTTP/1.1\r\nhost: x\r\n", b"x-a: b\r\n", [408]),
        (b"POST /pre", b"d", [408]),
        (b"POST /predict HTTP/1.1\r\nhost: x\r\ncontent-length: 5000\r\n\r\n", b" ", [408]),
        (b"POST /predict HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n",
         b"1\r\n \r\n", [408]),
        (b"", b"\r\n", []),
        (ORDINARY, b"\r\n", [200]),
        (ORDINARY + b"POST /predict HTTP/1.1\r\n", b"x-a: b\r\n", [200, 408]),
    ],
    ids=["headers", "path", "body", "chunks", "lines", "lines-after", "second-request"],
)  # fmt: skip
def test_who_sends_too_slowly_is_cut_off(
    server: Server, start: bytes, each: bytes, code: list[int]
) -> None:
    before = rejected(server, "request_timeout")
    assert codes(drip(server, start, each)) == code
    assert rejected(server, "request_timeout") > before


def test_who_says_nothing_is_cut_off(server: Server) -> None:
    assert exchange(server) == b""


def test_who_does_not_read_is_cut_off(server: Server) -> None:
    before = rejected(server, "slow_reader")
    with connect(server) as client:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        asks = b"GET /metrics HTTP/1.1\r\nhost: x\r\n\r\n" * 10
        client.settimeout(ARRIVAL_SECONDS)
        sent = 0
        while rejected(server, "slow_reader") == before:
            try:
                sent += client.send(asks)
                time.sleep(ARRIVAL_SECONDS / 5)
            except (TimeoutError, ConnectionError):
                continue
        assert sent > 0


def test_slow_clients_hold_up_no_other(server: Server) -> None:
    with ExitStack() as stack:
        for _ in range(200):
            stack.enter_context(connect(server)).sendall(b"POST /predict HTTP/1.1\r\nhost:")
        for _ in range(20):
            reply = httpx.post(f"{server.url}/predict", json={"inputs": "my card"})
            assert reply.status_code == 200


# -- many --------------------------------------------------------------------------------------


@contextmanager
def many_files(count: int) -> Iterator[None]:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < count:
        pytest.skip(f"this machine lets a process open {hard} files, {count} are needed")
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, count), hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_thousands_of_idle_connections_are_held_and_let_go(server: Server) -> None:
    process = psutil.Process(server.process.pid)
    with many_files(CONNECTIONS + 200), ExitStack() as stack:
        clients = [stack.enter_context(connect(server)) for _ in range(CONNECTIONS)]
        reply = httpx.post(f"{server.url}/predict", json={"inputs": "my card"}, timeout=20)
        assert reply.status_code == 200
        assert all(rest(client) == b"" for client in clients)
    while process.num_fds() > 100:
        time.sleep(0.05)


def test_at_the_limit_idle_connections_make_room(tiny_bundle: Bundle) -> None:
    limit = 50
    with serving(bundle=tiny_bundle.path, max_connections=limit) as small, ExitStack() as stack:
        clients = [stack.enter_context(connect(small)) for _ in range(3 * limit)]
        answered = 0
        while answered < 10:  # refused until one of them has been idle for a second
            with connect(small) as client:
                client.sendall(ORDINARY.replace(b"host: x", b"host: x\r\nconnection: close"))
                answered += codes(rest(client)) == [200]
        assert psutil.Process(small.process.pid).num_fds() < limit + 60
        assert rejected(small, "too_many_connections") >= limit
        assert [codes(rest(client)) for client in clients[-limit:]] == [[503]] * limit


def test_a_connection_at_work_is_not_closed_for_another(tiny_bundle: Bundle) -> None:
    with (
        serving(bundle=tiny_bundle.path, max_connections=3) as small,
        httpx.Client(base_url=small.url, timeout=20) as http,
        ExitStack() as stack,
    ):
        for _ in range(50):
            stack.enter_context(connect(small))
            assert http.post("/predict", json={"inputs": "my card"}).status_code == 200


def test_the_server_raises_its_limit_of_open_files(tiny_bundle: Bundle) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (200, hard))
    try:
        with serving(bundle=tiny_bundle.path) as low:
            assert psutil.Process(low.process.pid).rlimit(psutil.RLIMIT_NOFILE) == (hard, hard)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_who_stalls_in_the_tls_handshake_is_cut_off(tiny_bundle: Bundle, tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    pair = authority.issue("server")
    tls = {"certificate": str(pair.certificate), "key": str(pair.key)}
    with serving(
        bundle=tiny_bundle.path, tls=tls, request_timeout_seconds=ARRIVAL_SECONDS
    ) as secure:
        context = authority.client()
        with ExitStack() as stack:
            clients = [stack.enter_context(connect(secure)) for _ in range(50)]
            reply = httpx.get(f"{secure.url}/health", verify=context)
            assert reply.status_code == 200
            assert all(rest(client) == b"" for client in clients)
        with connect(secure) as raw, context.wrap_socket(raw, server_hostname="127.0.0.1") as slow:
            slow.sendall(b"POST /predict HTTP/1.1\r\n")
            assert codes(slow.recv(1000)) == [408]
        exchange(secure, ORDINARY)
        assert httpx.get(f"{secure.url}/health", verify=context).status_code == 200
        assert secure.stop() == 0
    assert "Traceback" not in secure.log


# -- what is no HTTP ---------------------------------------------------------------------------

CHUNKED = b"POST /predict HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n"
SIZED = b"POST /predict HTTP/1.1\r\nhost: x\r\ncontent-length: %s\r\n\r\n"
MALFORMED = {
    "letters": CHUNKED + b"zz\r\nhello\r\n0\r\n\r\n",
    "negative chunk": CHUNKED + b"-5\r\nhello\r\n0\r\n\r\n",
    "huge chunk": CHUNKED + b"F" * 17 + b"\r\nhello\r\n",
    "longer than said": CHUNKED + b"3\r\nhello\r\n0\r\n\r\n",
    "bare line feed": CHUNKED + b"5\nhello\n0\n\n",
    "no size": CHUNKED + b"\r\n\r\n",
    "two lengths": SIZED.replace(b"%s", b"5\r\ncontent-length: 6") + b"hello",
    "length and chunks": CHUNKED.replace(b"x\r\n", b"x\r\ncontent-length: 5\r\n") + b"0\r\n\r\n",
    "chunks not last": CHUNKED.replace(b"chunked", b"chunked, identity") + b"0\r\n\r\n",
    "negative length": SIZED % b"-1" + b"hello",
    "signed length": SIZED % b"+5" + b"hello",
    "length in words": SIZED % b"five" + b"hello",
    "huge length": SIZED % (b"9" * 40) + b"hello",
    "space before colon": b"GET /health HTTP/1.1\r\nhost : x\r\n\r\n",
    "folded header": b"GET /health HTTP/1.1\r\nhost: x\r\nx-a: b\r\n c\x00d\r\n\r\n",
    "control in a header": b"GET /health HTTP/1.1\r\nhost: x\r\nx-a: \x00\r\n\r\n",
    "unknown method": b"BREW /predict HTTP/1.1\r\nhost: x\r\n\r\n",
    "unknown version": b"GET /health HTTP/9.9\r\nhost: x\r\n\r\n",
    "http 2": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "tls": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(500),
    "nul": bytes(1000),
    "tunnel": b"CONNECT example.org:443 HTTP/1.1\r\nhost: x\r\n\r\n",
    "no path": b"OPTIONS * HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n",
    "nul in the path": b"GET /hea\x00lth HTTP/1.1\r\nhost: x\r\n\r\n",
    "space in the path": b"GET /a b HTTP/1.1\r\nhost: x\r\n\r\n",
}


@pytest.mark.parametrize("name", MALFORMED)
def test_what_is_no_request_is_refused(server: Server, name: str) -> None:
    said = codes(exchange(server, MALFORMED[name]))
    assert all(400 <= code < 500 for code in said)


@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(noise=st.binary(max_size=300), cut=st.integers(0, len(ORDINARY)))
def test_noise_gets_no_answer_but_a_refusal(server: Server, noise: bytes, cut: int) -> None:
    with connect(server) as client:
        client.sendall(ORDINARY[:cut] + noise)
        client.shutdown(socket.SHUT_WR)
        assert all(code < 500 for code in codes(rest(client)))


UPGRADES = [
    b"upgrade: websocket\r\nconnection: upgrade\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
    b"sec-websocket-version: 13",
    b"upgrade: h2c\r\nconnection: upgrade, http2-settings\r\nhttp2-settings: AAMAAABkAAQAAP__",
]


@pytest.mark.parametrize("headers", UPGRADES, ids=["websocket", "http2"])
def test_no_other_protocol_is_spoken(server: Server, headers: bytes) -> None:
    with connect(server) as client:
        client.sendall(b"GET /health HTTP/1.1\r\nhost: x\r\n" + headers + b"\r\n\r\n")
        assert codes(client.recv(1000)) == [200]


# -- floods ------------------------------------------------------------------------------------


def endless(piece: bytes) -> Iterable[bytes]:
    block, end = piece * (65536 // len(piece) + 1), time.monotonic() + PATIENCE_SECONDS
    while time.monotonic() < end:
        yield block


@pytest.mark.parametrize(
    ("start", "piece"),
    [
        (b"GET /health HTTP/1.1\r\n", b"x-a: b\r\n"),
        (b"GET /health HTTP/1.1\r\nx-a: ", b"b" * 1000),
        (b"GET /health HTTP/1.1\r\n", b"x" * 1000),
        (b"GET /", b"a" * 1000),
        (CHUNKED + b"0\r\n", b"x-a: b\r\n"),
        (CHUNKED + b"0\r\nx-a: ", b"b" * 1000),
        (CHUNKED + b"5;", b"a=b;" * 250),
        (CHUNKED, b"5\r\n     \r\n"),
        (CHUNKED, b"1\r\n \r\n"),
        (SIZED % b"100000000000", b" " * 1000),
        (b"", b"\r\n"),
    ],
    ids=["headers", "value", "name", "path", "trailers", "trailer", "extension", "chunks",
         "small-chunks", "body", "lines"],
)  # fmt: skip
def test_what_never_ends_is_cut_off_in_bounded_memory(
    server: Server, start: bytes, piece: bytes
) -> None:
    process = psutil.Process(server.process.pid)
    before, most = process.memory_info().rss, 0
    with connect(server) as client:
        try:
            client.sendall(start)
            for block in endless(piece):
                client.sendall(block)
                most = max(most, process.memory_info().rss)
        except ConnectionError:
            pass
        else:
            pytest.fail("the server takes everything")
        assert all(400 <= code < 500 for code in codes(rest(client)))
    assert most < before + MOST_GROWTH_BYTES


def test_more_headers_than_a_client_has_are_refused(server: Server) -> None:
    def ask(count: int) -> list[int]:
        headers = b"".join(b"x-%d: a\r\n" % i for i in range(count))
        return codes(exchange(server, closing(b"GET /health HTTP/1.1\r\n" + headers + b"\r\n")))

    assert ask(50) == [200]
    assert ask(200) == [400]


def test_pipelined_requests_are_answered_in_order(server: Server) -> None:
    asks = b"".join(
        b"GET /%s HTTP/1.1\r\nhost: x\r\nx-request-id: %d\r\n\r\n" % (path, i)
        for i, path in enumerate([b"health", b"none"] * 25)
    )
    said = exchange(server, asks + closing(b"GET /health HTTP/1.1\r\n\r\n"))
    assert codes(said) == [*[200, 404] * 25, 200]
    ids = [line.split(b": ")[1] for line in said.split(b"\r\n") if line.startswith(b"x-request-id")]
    assert ids[:50] == [b"%d" % i for i in range(50)]


def test_a_flood_of_pipelined_requests_is_bounded(server: Server) -> None:
    process = psutil.Process(server.process.pid)
    before, most, blocked = process.memory_info().rss, 0, 0
    with connect(server) as client:
        client.settimeout(0.2)
        while blocked < 3:
            try:
                client.send(ORDINARY * 500)
            except TimeoutError:
                blocked += 1
            except ConnectionError:
                break
            most = max(most, process.memory_info().rss)
    assert most < before + MOST_GROWTH_BYTES


# -- bodies ------------------------------------------------------------------------------------

REFUSED_BODIES: dict[str, bytes] = {
    "empty": b"",
    "nested lists": b"[" * 100_000,
    "nested inputs": b'{"inputs":' + b"[" * 50_000 + b"]" * 50_000 + b"}",
    "nested objects": b'{"a":' * 30_000 + b"1" + b"}" * 30_000,
    "nested and ignored": b'{"inputs":"a","x":' + b"[" * 50_000 + b"]" * 50_000 + b"}",
    "not a number": b'{"inputs":NaN}',
    "not a number, ignored": b'{"inputs":"a","x":NaN}',
    "infinite": b'{"inputs":"a","truncate":Infinity}',
    "huge integer": b'{"inputs":' + b"9" * 100_000 + b"}",
    "huge exponent": b'{"inputs":1e999999}',
    "integer for a text": b'{"inputs":1}',
    "broken utf-8": b'{"inputs":"\xff\xfe"}',
    "half a surrogate": b'{"inputs":"\\ud800"}',
    "utf-16": '{"inputs":"a"}'.encode("utf-16"),
    "twice": BODY + BODY,
    "cut off": BODY[:-1],
    "gzip": gzip.compress(BODY),
    "gzip bomb": gzip.compress(bytes(50_000_000)),
    "too many texts": json.dumps({"inputs": [["a"]] * 10_000}).encode(),
    "no texts": b'{"inputs":[]}',
    "blank": b'{"inputs":"  "}',
    "too long a text": json.dumps({"inputs": "a " * 50_000}).encode(),
    "too large": b" " * 300_000,
}


@pytest.mark.parametrize("route", ["/predict", "/v1/predict", "/embed", "/feedback"])
@pytest.mark.parametrize("name", REFUSED_BODIES)
def test_no_body_breaks_a_route(server: Server, route: str, name: str) -> None:
    reply = httpx.post(f"{server.url}{route}", content=REFUSED_BODIES[name], timeout=20)
    assert 400 <= reply.status_code < 500 or (route == "/feedback" and reply.status_code == 503)
    assert reply.json()["error_type"]
    assert len(reply.content) < 5000


@pytest.mark.parametrize(
    ("content_type", "body"),
    [
        ("application/xml", b'<?xml version="1.0"?><inputs>a</inputs>'),
        ("multipart/form-data; boundary=b", b"--b\r\n\r\na\r\n--b--\r\n"),
        ("application/x-www-form-urlencoded", b"inputs=a"),
        ("application/msgpack", b"\x81\xa6inputs\xa1a"),
        ("text/plain; charset=utf-16", "inputs".encode("utf-16")),
    ],
)
def test_what_is_not_json_is_refused(server: Server, content_type: str, body: bytes) -> None:
    headers = {"content-type": content_type}
    reply = httpx.post(f"{server.url}/predict", content=body, headers=headers)
    assert reply.status_code in (400, 415)


# -- paths -------------------------------------------------------------------------------------

PATHS = [
    b"/admin/../", b"/admin/..%2fpredict", b"//", b"//predict", b"/./predict", b"/%2e%2e/%2e%2e/",
    b"/../../etc/passwd", b"/..%5c..%5c", b"/predict%00", b"/%00", b"/predict/", b"/PREDICT",
    b"/predict;x=y", b"/%ff%fe", b"/%", b"/%zz", b"/predict%2f", b"/predict%3f", b"/a" * 20_000,
    b"/health%0d%0ax-a:%20b", b"/%7b%7b7*7%7d%7d", b"/.git/config", b"/%252e%252e/",
]  # fmt: skip


@pytest.mark.parametrize("path", PATHS, ids=[path[:30].decode() for path in PATHS])
@pytest.mark.parametrize("method", [b"GET", b"POST", b"DELETE"])
def test_no_path_leads_anywhere_else(server: Server, method: bytes, path: bytes) -> None:
    said = exchange(server, closing(method + b" " + path + b" HTTP/1.1\r\n\r\n"))
    assert [code for code in codes(said) if not 400 <= code < 500] == []
    assert b"\r\nx-a: b" not in said.lower()
    assert b"root:" not in said


# -- ends --------------------------------------------------------------------------------------


@pytest.mark.parametrize("sent", [len(ORDINARY), len(ORDINARY) - 5, 10, 0])
def test_half_closed_connections_end(server: Server, sent: int) -> None:
    with connect(server) as client:
        client.sendall(ORDINARY[:sent])
        client.shutdown(socket.SHUT_WR)
        assert codes(rest(client)) in ([], [200], [400], [408])


def test_connections_that_are_reset_leave_nothing(server: Server) -> None:
    def reset(sent: int) -> None:
        client = connect(server)
        client.sendall(ORDINARY[:sent])
        client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        client.close()

    threads = [threading.Thread(target=reset, args=(i % (len(ORDINARY) + 1),)) for i in range(200)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    with httpx.Client(base_url=server.url) as http:
        while metric(http, "edgeloop_inflight_requests") > 1:
            time.sleep(0.02)


def test_a_body_that_was_promised_and_does_not_come_is_not_waited_for(server: Server) -> None:
    head = (SIZED % b"20").replace(b"host: x", b"host: x\r\nexpect: 100-continue")
    assert codes(exchange(server, head)) == [100, 408]
