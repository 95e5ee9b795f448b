"""Clients that go away while their texts wait, with a bundle whose answers take a while."""

import json
import socket
import time
from pathlib import Path

import httpx

from tests import tiny
from tests.altered import make_slow
from tests.edge_server import Server, serving
from tests.integration.test_serve_http import metric

LEAVING = 5


def ask(server: Server, text: str) -> socket.socket:
    """Send a request, and do not wait for its answer."""
    body = json.dumps({"inputs": text}).encode()
    host, _, port = server.url.removeprefix("http://").partition(":")
    connection = socket.create_connection((host, int(port)), timeout=10)
    head = f"POST /predict HTTP/1.1\r\nHost: a\r\nContent-Length: {len(body)}\r\n\r\n"
    connection.sendall(head.encode() + body)
    return connection


def test_a_client_that_leaves_the_queue_is_not_answered(tmp_path: Path) -> None:
    bundle = make_slow(tiny.make_bundle(tmp_path / "bundle"))
    with (
        serving(bundle=bundle.path, workers=1) as server,
        httpx.Client(base_url=server.url) as http,
    ):
        clients = [ask(server, f"card {i}") for i in range(LEAVING + 1)]
        while metric(http, "edgeloop_inflight_requests") < len(clients) + 1:
            time.sleep(0.01)
        for client in clients[1:]:
            client.close()
        while metric(http, "edgeloop_inflight_requests") > 2:
            time.sleep(0.01)
        cancelled = metric(http, "edgeloop_cancelled_total", reason="client_gone")
        assert metric(http, "edgeloop_requests_total", route="/predict", code="499") == cancelled
        assert cancelled >= LEAVING - 1  # one of them may have been taken in the meantime
        assert clients[0].recv(12) == b"HTTP/1.1 200"
        clients[0].close()
        assert metric(http, "edgeloop_inference_seconds_count") == len(clients) - cancelled
