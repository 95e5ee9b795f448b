"""The application in this process, where a test can break what a real server does not."""

import asyncio
import threading
import time
from collections.abc import Iterator
from dataclasses import replace

import httpx
import pytest
from prometheus_client import CollectorRegistry
from starlette.types import Message, Scope

from edgeloop.bundle import Bundle
from edgeloop.observer import Observation, ObserverStatus
from edgeloop.runtime import OnnxModel
from serve.app import EdgeApp
from serve.autotune import shared
from serve.hot import MAX_HOT_BYTES
from serve.jobs import Job, Unhealthy
from serve.metrics import ServeMetrics
from serve.slot import ActivationError, Activator, Active, Slot

QUEUE_TEXTS = 16
WAIT_SECONDS = 10.0


class NoStatus:
    """An observer that cannot tell where it stands."""

    def observe(self, _: Observation) -> None:
        return None

    def label(self, _: object) -> None:
        return None

    def status(self) -> ObserverStatus:
        raise RuntimeError("no status")

    def state(self) -> bytes:
        return b""

    def restore(self, _: bytes) -> None:
        return None


@pytest.fixture
def metrics() -> ServeMetrics:
    return ServeMetrics(CollectorRegistry(), "tiny")


@pytest.fixture
def activator(metrics: ServeMetrics) -> Activator:
    return Activator(lambda _: NoStatus(), lambda _: None, metrics, shared(1), QUEUE_TEXTS)


@pytest.fixture
def active(activator: Activator, tiny_bundle: Bundle) -> Iterator[Active]:
    made = activator.activate(tiny_bundle)
    yield made
    made.close()
    made.join(WAIT_SECONDS)


@pytest.fixture
def app(active: Active, metrics: ServeMetrics) -> EdgeApp:
    return EdgeApp(Slot(active, metrics), metrics, None, QUEUE_TEXTS)


def get(app: EdgeApp, path: str) -> httpx.Response:
    async def ask() -> httpx.Response:
        transport = httpx.ASGITransport(app)
        async with httpx.AsyncClient(transport=transport, base_url="http://edge") as client:
            return await client.get(path)

    return asyncio.run(ask())


def counted(metrics: ServeMetrics, route: str, code: str) -> float | None:
    labels = {"model": "tiny", "variant": "stable", "route": route, "code": code}
    return metrics.registry.get_sample_value("edgeloop_requests_total", labels)


def test_an_error_of_the_server_is_answered_logged_and_counted(
    app: EdgeApp, metrics: ServeMetrics, caplog: pytest.LogCaptureFixture
) -> None:
    reply = get(app, "/drift")
    assert reply.status_code == 500
    assert reply.json()["error_type"] == "Backend"
    assert "no status" not in reply.text
    assert "no status" in caplog.text
    assert counted(metrics, "/drift", "500") == 1
    assert metrics.registry.get_sample_value("edgeloop_inflight_requests", {"model": "tiny"}) == 0


def test_an_error_on_the_hot_route_is_answered(app: EdgeApp, active: Active) -> None:
    one_label = active.bundle.manifest.model_copy(update={"labels": ("billing",)})
    active.bundle = replace(active.bundle, manifest=one_label)  # no activation lets this through
    start, body = post_raw(app, "/predict", [complete(b'{"inputs": "a"}')])
    assert start["status"] == 500
    assert b"Backend" in body["body"]


def complete(body: bytes) -> Message:
    return {"type": "http.request", "body": body, "more_body": False}


def post_raw(app: EdgeApp, path: str, received: list[Message]) -> list[Message]:
    """What the application sends when it receives exactly these messages."""
    sent: list[Message] = []
    scope: Scope = {
        "type": "http",
        "method": "POST",
        "path": path,
        "root_path": "",
        "query_string": b"",
        "headers": [],
    }

    async def receive() -> Message:
        if not received:
            await asyncio.Event().wait()  # as a client that waits for its answer
        return received.pop(0)

    async def send(message: Message) -> None:
        sent.append(message)

    asyncio.run(app(scope, receive, send))
    return sent


def test_a_client_that_leaves_early_is_counted_and_not_answered(
    app: EdgeApp, metrics: ServeMetrics
) -> None:
    part = {"type": "http.request", "body": b'{"inputs"', "more_body": True}
    assert post_raw(app, "/predict", [part, {"type": "http.disconnect"}]) == []
    assert counted(metrics, "/predict", "499") == 1


def test_health_tells_of_a_dead_thread(app: EdgeApp, monkeypatch: pytest.MonkeyPatch) -> None:
    assert get(app, "/health").status_code == 200

    def die(*_: object) -> None:
        raise SystemExit

    monkeypatch.setattr(OnnxModel, "run", die)
    reply = post_raw(app, "/predict", [complete(b'{"inputs": "a"}')])
    assert reply[0]["status"] == 424
    health = get(app, "/health")
    assert (health.status_code, health.json()["status"]) == (503, "unhealthy")
    assert post_raw(app, "/predict", [complete(b'{"inputs": "a"}')])[0]["status"] == 503


def test_a_retired_deployment_works_until_its_last_request(active: Active) -> None:
    with active:
        active.retire()
        job = Job(["my card"], truncate=False, deadline=time.monotonic() + WAIT_SECONDS)
        active.engine.submit(job)
        assert job.future.result(WAIT_SECONDS)[0].tokens == 4
    with pytest.raises(Unhealthy):
        active.engine.submit(Job(["my card"], truncate=False, deadline=time.monotonic()))


def test_a_retired_deployment_leaves_no_thread(activator: Activator, tiny_bundle: Bundle) -> None:
    before = threading.active_count()
    active = activator.activate(tiny_bundle)
    assert threading.active_count() > before
    active.retire()
    active.join(WAIT_SECONDS)
    assert threading.active_count() == before


def test_a_monitor_that_does_not_start_is_an_activation_error(
    metrics: ServeMetrics, tiny_bundle: Bundle
) -> None:
    def fail(_: Bundle) -> NoStatus:
        raise ValueError("no reference")

    before = threading.active_count()
    activator = Activator(fail, lambda _: None, metrics, shared(1), QUEUE_TEXTS)
    with pytest.raises(ActivationError, match="no reference") as caught:
        activator.activate(tiny_bundle)
    assert caught.value.reason == "load"
    end = time.monotonic() + WAIT_SECONDS
    while threading.active_count() > before and time.monotonic() < end:
        time.sleep(0.01)
    assert threading.active_count() == before


@pytest.mark.parametrize(
    ("method", "path", "headers"),
    [
        ("GET", "/predict", [(b"content-length", b"5")]),
        ("POST", "/feedback", [(b"content-length", b"5")]),
        ("POST", "/predict", []),
        ("POST", "/predict", [(b"content-length", b"%d" % (MAX_HOT_BYTES + 1))]),
        ("POST", "/predict", [(b"content-length", b"5"), (b"content-encoding", b"gzip")]),
        ("POST", "/predict", [(b"content-length", b"5"), (b"expect", b"100-continue")]),
        ("POST", "/nowhere", [(b"content-length", b"5")]),
    ],
)
def test_what_is_answered_through_asgi(
    method: str, path: str, headers: list[tuple[bytes, bytes]], app: EdgeApp
) -> None:
    scope = {"type": "http", "method": method, "path": path, "headers": headers}
    assert app.hot.take(scope, print) is None


def test_what_is_answered_past_asgi(app: EdgeApp) -> None:
    headers = [(b"content-length", b"5")]
    scope = {"type": "http", "method": "POST", "path": "/predict", "headers": headers}
    assert app.hot.take(scope, print) is not None
