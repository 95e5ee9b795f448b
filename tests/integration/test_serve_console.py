"""The console's two routes of a real server: what they tell, and to whom."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import msgspec
import pytest

from edgeloop.bundle import Bundle
from serve.console.state import SHOWN_CHANGES, State
from serve.keyfile import add_key
from tests import tiny
from tests.altered import break_golden
from tests.edge_server import ALARM_WORD, Server, serving
from tests.integration.test_serve_swap import wait_until

SECRET_TEXT = "zebra"
HEADERS = {
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "no-referrer",
    "cache-control": "no-store",
}


@pytest.fixture(scope="module")
def bundles(tmp_path_factory: pytest.TempPathFactory) -> tuple[Bundle, Bundle]:
    folder = tmp_path_factory.mktemp("console")
    return (
        tiny.make_bundle(folder / "first", abstain_below=0.5),
        tiny.make_bundle(folder / "second", seed=1, abstain_below=0.5),
    )


@pytest.fixture(scope="module")
def server(bundles: tuple[Bundle, Bundle]) -> Iterator[Server]:
    with serving(bundle=bundles[0].path, admin={"port": 0}) as running:
        yield running


@pytest.fixture
def http(server: Server) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=server.url, timeout=20) as client:
        yield client


def state(http: httpx.Client) -> State:
    reply = http.get("/console/state")
    assert reply.status_code == 200
    assert reply.headers.items() >= HEADERS.items()
    return msgspec.json.decode(reply.content, type=State, strict=True)


def change(server: Server, route: str, **body: Any) -> int:
    return httpx.post(f"{server.admin}/admin/{route}", json=body, timeout=20).status_code


def test_the_page_is_there_for_get_and_head_and_the_dialect_for_post(http: httpx.Client) -> None:
    page = http.get("/")
    assert page.status_code == 200
    assert page.headers["content-type"] == "text/html; charset=utf-8"
    assert page.headers.items() >= HEADERS.items()
    assert "frame-ancestors 'none'" in page.headers["content-security-policy"]
    assert "unsafe" not in page.headers["content-security-policy"]
    head = http.head("/")
    assert (head.status_code, head.content) == (200, b"")
    assert http.post("/", json={"inputs": "card"}).json()[0][0]["label"] == "billing"
    refused = http.delete("/")
    assert (refused.status_code, refused.headers["allow"]) == (405, "POST")
    assert http.post("/console/state").status_code == 405
    assert http.get("/console/").status_code == 404


def test_the_page_asks_for_nothing_that_the_server_has_not(http: httpx.Client) -> None:
    for path in ("metrics", "openapi.json", "info", "console/state"):
        assert path in http.get("/").text
        assert http.get(f"/{path}").status_code == 200


def test_counters_go_with_the_requests(http: httpx.Client) -> None:
    before = state(http).traffic
    for _ in range(3):
        assert http.post("/predict", json={"inputs": "card refund"}).status_code == 200
    assert http.post("/predict", json={"inputs": 7}).status_code == 422
    http.get("/")
    after = state(http).traffic
    assert after.requests[-1] - before.requests[-1] == 4
    assert after.inferences[-1] - before.inferences[-1] == 3
    assert after.waits[-1] - before.waits[-1] == 3
    assert after.rejected["invalid"] - before.rejected.get("invalid", 0) == 1
    assert after.requests == sorted(after.requests)
    assert len(after.requests) == len(after.bounds_seconds) + 1
    assert (after.inflight, after.queued_texts) == (0, 0)


def test_bundles_history_and_trials_are_told(
    server: Server, bundles: tuple[Bundle, Bundle], http: httpx.Client, tmp_path: Path
) -> None:
    first, second = bundles
    assert change(server, "bundles", path=str(second.path)) == 200
    bad = break_golden(tiny.make_bundle(tmp_path / "bad", seed=3))
    assert change(server, "bundles", path=str(bad.path)) == 422
    assert change(server, "rollback") == 200
    body = {"path": str(second.path), "share": 0.25, "agreement": None}
    assert change(server, "canary", **body) == 200
    found = state(http)
    assert (found.current.digest, found.previous and found.previous.digest) == (
        first.digest,
        second.digest,
    )
    assert httpx.delete(f"{server.admin}/admin/canary").status_code == 200
    (trial,) = found.trials
    assert (trial.variant, trial.bundle.digest, trial.share) == ("canary", second.digest, 0.25)
    assert trial.needed_evidence == pytest.approx(20.0)
    assert trial.questions == {side: {"errors": 1.0, "latency": 1.0} for side in ("worse", "fine")}
    told = [(line.kind, line.outcome, line.bundle) for line in found.history]
    assert told == [
        ("canary", "started", "second"),
        ("rollback", "ok", "first"),
        ("swap", "golden", "bad"),
        ("swap", "ok", "second"),
    ]
    assert len(found.history) <= SHOWN_CHANGES
    assert str(tmp_path) not in http.get("/console/state").text
    assert str(first.path.parent) not in http.get("/console/state").text


def test_no_text_of_a_client_is_told(http: httpx.Client) -> None:
    text = f"{SECRET_TEXT} {ALARM_WORD}"
    assert http.post("/predict", json={"inputs": text}).status_code == 200
    wait_until(lambda: state(http).drift.alarmed)
    found = state(http)
    assert found.drift.threshold == 2.0
    assert found.drift.observations > 0
    assert SECRET_TEXT not in http.get("/console/state").text
    assert SECRET_TEXT not in http.get("/").text


def test_with_keys_the_page_is_open_and_its_numbers_are_not(
    bundles: tuple[Bundle, Bundle], tmp_path: Path
) -> None:
    file = tmp_path / "keys.json"
    reader, asker = add_key(file, "reader", ("metrics",)), add_key(file, "asker", ("predict",))
    keys = {"file": str(file)}
    with serving(bundle=bundles[0].path, keys=keys) as running:
        with httpx.Client(base_url=running.url) as http:
            page = http.get("/")
            assert (page.status_code, page.headers["content-type"][:9]) == (200, "text/html")
            assert "tiny" not in page.text
            assert http.post("/", json={"inputs": "card"}).status_code == 401
            assert http.get("/console/state").status_code == 401
            codes = [
                http.get("/console/state", headers={"authorization": f"Bearer {key}"}).status_code
                for key in (reader, asker)
            ]
        assert codes == [200, 403]


def test_it_can_be_switched_off(bundles: tuple[Bundle, Bundle]) -> None:
    with serving(bundle=bundles[0].path, console=False) as running:
        assert httpx.get(f"{running.url}/").status_code == 405
        assert httpx.get(f"{running.url}/console/state").status_code == 404
        assert httpx.post(f"{running.url}/", json={"inputs": "card"}).status_code == 200


def test_a_server_that_drains_says_so(bundles: tuple[Bundle, Bundle]) -> None:
    settings = {"bundle": bundles[0].path, "drain_seconds": 5}
    with serving(**settings) as running, httpx.Client(base_url=running.url) as http:
        assert state(http).status == "ok"
        running.process.terminate()
        wait_until(lambda: state(http).status == "draining")


def test_the_document_of_the_api_describes_the_state(http: httpx.Client) -> None:
    document = http.get("/openapi.json").json()
    told = document["paths"]["/console/state"]["get"]["responses"]["200"]
    assert "State" in json.dumps(told)
