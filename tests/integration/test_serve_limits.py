"""Overload, deadlines and the end of the process, with a bundle whose answers take a while."""

import signal
import threading
import time
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import count
from pathlib import Path

import httpx
import pytest

from edgeloop.bundle import Bundle
from tests import tiny
from tests.altered import make_slow, rewrite_manifest
from tests.edge_server import Server, serving
from tests.integration.test_serve_http import metric

TIMEOUT_SECONDS = 30.0
CLIENTS = 8
NUMBERS = count()


@pytest.fixture(scope="module")
def slow_bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return make_slow(tiny.make_bundle(tmp_path_factory.mktemp("slow") / "bundle"))


def ask(server: Server, timeout_ms: int | None = None) -> httpx.Response:
    """A new text each time: one that is being answered is not answered twice."""
    headers = {} if timeout_ms is None else {"x-request-timeout-ms": str(timeout_ms)}
    return httpx.post(
        f"{server.url}/predict",
        json={"inputs": f"my card {next(NUMBERS)}"},
        headers=headers,
        timeout=TIMEOUT_SECONDS,
    )


def rejected(server: Server, reason: str) -> float:
    with httpx.Client(base_url=server.url) as http:
        return metric(http, "edgeloop_rejected_total", reason=reason)


def test_a_full_queue_sheds_and_says_when_to_come_back(slow_bundle: Bundle) -> None:
    with (
        serving(bundle=slow_bundle.path, workers=1, queue_texts=1) as server,
        ThreadPoolExecutor(CLIENTS) as pool,
    ):
        replies = list(pool.map(lambda _: ask(server), range(CLIENTS)))
        codes = [reply.status_code for reply in replies]
        assert set(codes) == {200, 503}
        assert rejected(server, "queue_full") == codes.count(503)
        for reply in replies:
            if reply.status_code == 503:
                assert reply.json()["error_type"] == "Overloaded"
                assert int(reply.headers["retry-after"]) >= 1
                assert int(reply.headers["retry-after-ms"]) >= 50
        too_many = {"inputs": [["a"], ["b"]]}
        assert httpx.post(f"{server.url}/predict", json=too_many).status_code == 422


def test_a_queued_request_is_answered_504_at_its_deadline(slow_bundle: Bundle) -> None:
    with (
        serving(bundle=slow_bundle.path, workers=1) as server,
        ThreadPoolExecutor(CLIENTS) as pool,
    ):
        replies = list(pool.map(lambda _: ask(server, timeout_ms=20), range(CLIENTS)))
        codes = [reply.status_code for reply in replies]
        # Who would wait beyond the deadline behind others is told at once.
        assert {200, 504} <= set(codes) <= {200, 503, 504}
        late = next(reply for reply in replies if reply.status_code == 504)
        assert late.json()["error_type"] == "Timeout"
        assert rejected(server, "deadline") == codes.count(504)
        assert ask(server).status_code == 200


def test_the_bundles_own_deadline_holds_without_a_header(tmp_path: Path) -> None:
    bundle = rewrite_manifest(make_slow(tiny.make_bundle(tmp_path / "b")), deadline_ms=20)
    with (
        serving(bundle=bundle.path, workers=1) as server,
        ThreadPoolExecutor(CLIENTS) as pool,
    ):
        codes = {reply.status_code for reply in pool.map(lambda _: ask(server), range(CLIENTS))}
        assert {200, 504} <= codes <= {200, 503, 504}


def in_flight(server: Server) -> float:
    with httpx.Client(base_url=server.url) as http:
        return metric(http, "edgeloop_inflight_requests")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_what_is_in_flight_is_answered_before_the_end(slow_bundle: Bundle, number: int) -> None:
    with (
        serving(bundle=slow_bundle.path, workers=1, drain_seconds=0.0) as server,
        ThreadPoolExecutor(3) as pool,
    ):
        asked: list[Future[httpx.Response]] = [pool.submit(ask, server) for _ in range(3)]
        while in_flight(server) < 4 and not any(future.done() for future in asked):
            time.sleep(0.01)
        assert server.stop(number) == 0
        assert [future.result().status_code for future in asked] == [200, 200, 200]
    assert "Traceback" not in server.log


def test_draining_is_announced_before_the_port_closes(tiny_bundle: Bundle) -> None:
    with serving(bundle=tiny_bundle.path, drain_seconds=1.0) as server:
        server.process.send_signal(signal.SIGTERM)
        while (health := httpx.get(f"{server.url}/health")).status_code == 200:
            assert "connection" not in health.headers
        assert (health.status_code, health.json()["status"]) == (503, "draining")
        reply = ask(server)
        assert (reply.status_code, reply.headers["connection"]) == (200, "close")
        assert server.wait() == 0


def test_sigterm_under_load_resets_no_connection(tiny_bundle: Bundle) -> None:
    failures: list[Exception] = []
    codes: list[int] = []

    def client() -> None:
        """Ask on one connection until the server says that it goes away."""
        with httpx.Client(base_url=server.url, timeout=TIMEOUT_SECONDS) as http:
            while True:
                try:
                    reply = http.post("/predict", json={"inputs": "my card"})
                except httpx.HTTPError as problem:
                    failures.append(problem)
                    return
                codes.append(reply.status_code)
                if reply.headers.get("connection") == "close":
                    return

    with serving(bundle=tiny_bundle.path, drain_seconds=2.0) as server:
        threads = [threading.Thread(target=client) for _ in range(CLIENTS)]
        for thread in threads:
            thread.start()
        while len(codes) < 200 and not failures:
            time.sleep(0.01)
        assert server.stop() == 0
        for thread in threads:
            thread.join(TIMEOUT_SECONDS)
    assert failures == []
    assert set(codes) == {200}


def test_sigterm_resets_no_client_that_connects_anew(tiny_bundle: Bundle) -> None:
    outcomes: set[int | str] = set()
    answered = threading.Event()

    def client() -> None:
        """Ask on a new connection every time until none is to be had."""
        while True:
            try:
                outcomes.add(ask(server).status_code)
                answered.set()
            except httpx.ConnectError:
                return
            except httpx.HTTPError as problem:
                outcomes.add(type(problem).__name__)
                return

    for _ in range(3):
        with serving(bundle=tiny_bundle.path, drain_seconds=0.0) as server:
            threads = [threading.Thread(target=client) for _ in range(CLIENTS)]
            for thread in threads:
                thread.start()
            assert answered.wait(TIMEOUT_SECONDS)
            assert server.stop() == 0
            for thread in threads:
                thread.join(TIMEOUT_SECONDS)
    assert outcomes == {200}


def test_a_second_signal_stops_at_once(tiny_bundle: Bundle) -> None:
    with serving(bundle=tiny_bundle.path, drain_seconds=600.0) as server:
        server.process.send_signal(signal.SIGTERM)
        while httpx.get(f"{server.url}/health").status_code == 200:
            pass
        assert server.stop() == 0
    assert "forced_stop" in server.log
